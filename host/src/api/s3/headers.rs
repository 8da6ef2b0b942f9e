//! The headers that S3 keeps with an object, beside the content type: kept among the client's own metadata,
//! under names that no client can send.

use std::collections::BTreeMap;

use s3s::dto::{GetObjectOutput, HeadObjectOutput, Metadata};

use super::sums::{self, copy_sums};

const ENCODING: &str = ":content-encoding";
const DISPOSITION: &str = ":content-disposition";
const LANGUAGE: &str = ":content-language";
const CACHE: &str = ":cache-control";

/// What a write sends to be kept.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) metadata: Option<Metadata>,
    pub(super) encoding: Option<String>,
    pub(super) disposition: Option<String>,
    pub(super) language: Option<String>,
    pub(super) cache: Option<String>,
}

macro_rules! sent {
    ($input:expr) => {
        $crate::api::s3::headers::Sent {
            metadata: $input.metadata.take(),
            encoding: $input.content_encoding.take(),
            disposition: $input.content_disposition.take(),
            language: $input.content_language.take(),
            cache: $input.cache_control.take(),
        }
    };
}
pub(super) use sent;

impl Sent {
    /// As it is kept.
    pub(super) fn kept(self) -> BTreeMap<String, String> {
        let mut kept: BTreeMap<String, String> = self.metadata.unwrap_or_default().into_iter().collect();
        let headers = [
            (ENCODING, self.encoding.and_then(without_chunks)),
            (DISPOSITION, self.disposition),
            (LANGUAGE, self.language),
            (CACHE, self.cache),
        ];
        kept.extend(
            headers
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?))),
        );
        kept
    }
}

/// `aws-chunked` is how the body came, not what it is.
fn without_chunks(encoding: String) -> Option<String> {
    let parts = encoding
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty() && *part != "aws-chunked");
    let rest = parts.collect::<Vec<_>>().join(", ");
    (!rest.is_empty()).then_some(rest)
}

/// What was kept, as a read tells it.
pub(super) struct Kept(BTreeMap<String, String>);

impl Kept {
    pub(super) fn new(user: &BTreeMap<String, String>) -> Self {
        Self(user.clone())
    }

    /// Tells everything but the checksums, which only a read of the whole object that asks for them is told.
    pub(super) fn tell_get(mut self, output: &mut GetObjectOutput, with_sums: bool) {
        let sums = sums::take(&mut self.0);
        if with_sums {
            copy_sums!(sums => output);
            output.checksum_type = sums.checksum_type;
        }
        output.content_encoding = self.0.remove(ENCODING);
        output.content_disposition = self.0.remove(DISPOSITION);
        output.content_language = self.0.remove(LANGUAGE);
        output.cache_control = self.0.remove(CACHE);
        output.metadata = Some(self.0.into_iter().collect());
    }

    pub(super) fn tell_head(mut self, output: &mut HeadObjectOutput, with_sums: bool) {
        let sums = sums::take(&mut self.0);
        if with_sums {
            copy_sums!(sums => output);
            output.checksum_type = sums.checksum_type;
        }
        output.content_encoding = self.0.remove(ENCODING);
        output.content_disposition = self.0.remove(DISPOSITION);
        output.content_language = self.0.remove(LANGUAGE);
        output.cache_control = self.0.remove(CACHE);
        output.metadata = Some(self.0.into_iter().collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_metadata_come_back_apart() {
        let sent = Sent {
            metadata: Some([("colour".to_owned(), "blue".to_owned())].into()),
            encoding: Some("aws-chunked,gzip".into()),
            cache: Some("no-store".into()),
            ..Sent::default()
        };
        let mut output = GetObjectOutput::default();
        Kept::new(&sent.kept()).tell_get(&mut output, true);
        assert_eq!(output.content_encoding.as_deref(), Some("gzip"));
        assert_eq!(output.cache_control.as_deref(), Some("no-store"));
        assert_eq!(output.metadata.unwrap().len(), 1);
        assert_eq!(without_chunks("aws-chunked".into()), None);
    }
}
