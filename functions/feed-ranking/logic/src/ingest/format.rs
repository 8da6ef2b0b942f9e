//! What a file is, by its first and last bytes and its suffix.

use super::IngestError;
use crate::table::Source;

/// A format that can be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Csv { delimiter: u8 },
    JsonLines,
    Parquet,
}

const MAGIC: &[u8] = b"PAR1";
const HEAD: usize = 64 << 10;
const ALLOWED: &str = "allowed are CSV, JSON Lines and Parquet";

/// Recognises a file; the bytes go before the suffix.
pub(super) fn detect(source: &dyn Source, key: &str) -> Result<Format, IngestError> {
    let size = source.size();
    let head = source.read_at(0, HEAD)?;
    if head.is_empty() {
        return rejected("the file is empty (0 bytes)".into());
    }
    if head.starts_with(MAGIC) {
        return parquet(source, size);
    }
    if suffix(key) == "parquet" {
        let found = String::from_utf8_lossy(&head[..head.len().min(4)]).into_owned();
        return rejected(format!(
            "not a Parquet file: it begins with `{found}`, not with `PAR1`"
        ));
    }
    if head.starts_with(&[0x1f, 0x8b]) || head.starts_with(b"PK\x03\x04") || head.contains(&0) {
        return rejected(format!("the content is compressed or binary; {ALLOWED}"));
    }
    let text = head
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(&head)
        .trim_ascii_start();
    match text.first() {
        None => rejected(format!("the file is blank; {ALLOWED}")),
        Some(b'{') => Ok(Format::JsonLines),
        Some(b'[') => rejected("a JSON array; allowed is JSON Lines, one object a line".into()),
        Some(_) => Ok(Format::Csv {
            delimiter: delimiter(text),
        }),
    }
}

fn parquet(source: &dyn Source, size: u64) -> Result<Format, IngestError> {
    let tail = source.read_at(size.saturating_sub(4), 4)?;
    if size < 12 || tail != MAGIC {
        let found = String::from_utf8_lossy(&tail).escape_debug().to_string();
        return rejected(format!(
            "a truncated Parquet file: its {size} bytes end with `{found}`, not with `PAR1`"
        ));
    }
    Ok(Format::Parquet)
}

/// The first of comma, tab and semicolon that the header has.
fn delimiter(text: &[u8]) -> u8 {
    let header = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    [b',', b'\t', b';']
        .into_iter()
        .find(|byte| header.contains(byte))
        .unwrap_or(b',')
}

fn suffix(key: &str) -> String {
    key.rsplit_once('.')
        .map(|(_, suffix)| suffix.to_ascii_lowercase())
        .unwrap_or_default()
}

fn rejected(reason: String) -> Result<Format, IngestError> {
    Err(IngestError::Rejected(reason))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn found(content: &[u8], key: &str) -> Result<Format, String> {
        detect(&Bytes::copy_from_slice(content), key).map_err(|error| error.to_string())
    }

    #[test]
    fn bytes_go_before_the_suffix() {
        assert_eq!(found(b"a,b\n1,2\n", "x.txt"), Ok(Format::Csv { delimiter: b',' }));
        assert_eq!(found(b"a;b\n1;2\n", "x.csv"), Ok(Format::Csv { delimiter: b';' }));
        assert_eq!(found(b"\xef\xbb\xbf{\"a\":1}\n", "x.csv"), Ok(Format::JsonLines));
        assert_eq!(found(b"PAR1........PAR1", "x"), Ok(Format::Parquet));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (content, key, reason) in [
            (b"".as_slice(), "x.csv", "empty"),
            (b" \n ", "x.csv", "blank"),
            (b"[{}]", "x.json", "one object a line"),
            (b"\x1f\x8bzz", "x.csv.gz", "compressed"),
            (b"PAR1.........", "x.parquet", "truncated"),
            (b"user_id,", "x.parquet", "not a Parquet file"),
        ] {
            let error = found(content, key).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
