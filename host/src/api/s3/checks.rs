//! What a client promised of its body, against what came; and the conditions of reads and writes.

use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, ETag, ETagCondition, Timestamp};
use s3s::{S3Result, TrailingHeaders, s3_error};
use tidegate_runtime::store::{Condition, ObjectMeta};

use super::buckets::timestamp;
use super::sums::{self, Wanted};
use crate::api::objects;

/// The checksums of a body: those that a client sent, or said it would send after the body.
#[derive(Default)]
pub(super) struct Promised {
    pub(super) md5: Option<String>,
    pub(super) sums: Checksum,
    /// One more that is to be computed.
    pub(super) also: Option<Wanted>,
}

macro_rules! promised {
    ($input:expr) => {{
        let mut sums = s3s::dto::Checksum::default();
        $crate::api::s3::sums::copy_sums!($input => sums);
        $crate::api::s3::checks::Promised {
            md5: $input.content_md5.take(),
            sums,
            also: None,
        }
    }};
}
pub(super) use promised;

const TRAILER: &str = "x-amz-trailer";
const ALGORITHM: &str = "x-amz-sdk-checksum-algorithm";

impl Promised {
    /// A hasher for every checksum that was sent or announced.
    pub(super) fn hasher(&self, headers: &http::HeaderMap) -> ChecksumHasher {
        let text = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let trailer = text(TRAILER).to_ascii_lowercase();
        let algorithm = text(ALGORITHM).to_ascii_lowercase();
        let wanted = |name: &str| {
            let sent = sums::named(&self.sums)
                .into_iter()
                .any(|(sent, sum)| sent == name && sum.is_some());
            let trailing = trailer
                .split(',')
                .any(|part| part.trim().strip_prefix("x-amz-checksum-") == Some(name));
            sent || trailing || algorithm == name || self.also.as_ref().is_some_and(|also| also.is(name))
        };
        sums::hasher(wanted)
    }

    /// Compares with what came; answers the checksums that were computed.
    pub(super) fn check(
        mut self,
        etag: &str,
        hasher: ChecksumHasher,
        trailers: Option<TrailingHeaders>,
    ) -> S3Result<Checksum> {
        if let Some(md5) = &self.md5 {
            let expected =
                objects::md5_hex(md5).ok_or_else(|| s3_error!(InvalidDigest, "`Content-MD5` is `{md5}`"))?;
            if expected != etag {
                return Err(s3_error!(
                    BadDigest,
                    "`Content-MD5` says {expected}, the body has {etag}"
                ));
            }
        }
        if let Some(trailers) = trailers.and_then(|trailers| trailers.take()) {
            self.take_trailers(&trailers);
        }
        let found = hasher.finalize();
        if let Some((name, sent, computed)) = sums::difference(&self.sums, &found) {
            return Err(s3_error!(
                BadDigest,
                "the checksum {name} was sent as `{sent}`, the body has `{computed}`"
            ));
        }
        Ok(found)
    }

    fn take_trailers(&mut self, trailers: &http::HeaderMap) {
        for (name, sum) in sums::named_mut(&mut self.sums) {
            let header = format!("x-amz-checksum-{name}");
            if let Some(sent) = trailers.get(&header).and_then(|value| value.to_str().ok()) {
                *sum = Some(sent.to_owned());
            }
        }
    }
}

/// What must hold of the object that a write replaces.
pub(super) fn write_condition(
    found: Option<&ObjectMeta>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<Condition> {
    match (if_none_match, found) {
        (Some(condition), _) if !condition.is_any() => {
            return Err(s3_error!(
                NotImplemented,
                "`If-None-Match` of a write takes `*` only"
            ));
        }
        (Some(_), Some(meta)) => {
            return Err(s3_error!(PreconditionFailed, "`{}` is there already", meta.key));
        }
        (Some(_), None) => return Ok(Condition::Absent),
        (None, _) => {}
    }
    match (if_match, found) {
        (None, _) => Ok(Condition::None),
        (Some(_), None) => Err(s3_error!(NoSuchKey, "there is no object to match")),
        (Some(condition), Some(meta)) if matches(condition, meta) => Ok(Condition::Version(meta.sequencer)),
        (Some(_), Some(meta)) => Err(s3_error!(
            PreconditionFailed,
            "`{}` has the etag `{}`",
            meta.key,
            meta.etag
        )),
    }
}

/// The conditions of a read.
#[derive(Default)]
pub(super) struct ReadConditions<'a> {
    pub(super) if_match: Option<&'a ETagCondition>,
    pub(super) if_none_match: Option<&'a ETagCondition>,
    pub(super) if_modified_since: Option<&'a Timestamp>,
    pub(super) if_unmodified_since: Option<&'a Timestamp>,
}

macro_rules! read_conditions {
    ($input:expr) => {
        $crate::api::s3::checks::ReadConditions {
            if_match: $input.if_match.as_ref(),
            if_none_match: $input.if_none_match.as_ref(),
            if_modified_since: $input.if_modified_since.as_ref(),
            if_unmodified_since: $input.if_unmodified_since.as_ref(),
        }
    };
}
pub(super) use read_conditions;

impl ReadConditions<'_> {
    /// Refuses a read that the client does not want; a match outweighs a time.
    pub(super) fn check(&self, meta: &ObjectMeta) -> S3Result<()> {
        // Times in headers know seconds only.
        let modified = timestamp(meta.modified / 1000 * 1000);
        let failed = match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) => !matches(condition, meta),
            (None, Some(time)) => modified > *time,
            (None, None) => false,
        };
        if failed {
            return Err(s3_error!(
                PreconditionFailed,
                "`{}` has the etag `{}`",
                meta.key,
                meta.etag
            ));
        }
        let unchanged = match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) => matches(condition, meta),
            (None, Some(time)) => modified <= *time,
            (None, None) => false,
        };
        if unchanged {
            Err(s3_error!(NotModified))
        } else {
            Ok(())
        }
    }
}

fn matches(condition: &ETagCondition, meta: &ObjectMeta) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => ETag::Strong(meta.etag.clone()).weak_cmp(etag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(etag: &str) -> ObjectMeta {
        serde_json::from_value(serde_json::json!({
            "key": "k", "size": 1, "etag": etag, "content_type": null, "modified": 5_500, "sequencer": 7,
        }))
        .unwrap()
    }

    fn etag(text: &str) -> ETagCondition {
        ETagCondition::ETag(ETag::Strong(text.into()))
    }

    #[test]
    fn writes_are_conditional_on_what_is_there() {
        let any = ETagCondition::Any;
        let condition =
            |found: Option<&ObjectMeta>, if_match, if_none| write_condition(found, if_match, if_none).ok();
        let (found, same, other) = (meta("a"), etag("a"), etag("b"));
        assert_eq!(condition(Some(&found), None, None), Some(Condition::None));
        assert_eq!(condition(None, None, Some(&any)), Some(Condition::Absent));
        assert_eq!(condition(Some(&found), None, Some(&any)), None);
        assert_eq!(
            condition(Some(&found), Some(&same), None),
            Some(Condition::Version(7))
        );
        assert_eq!(condition(Some(&found), Some(&other), None), None);
        assert_eq!(condition(None, Some(&same), None), None);
    }

    #[test]
    fn reads_are_conditional_on_etag_and_time() {
        let none = ReadConditions::default;
        let (same, other, at, before) = (etag("a"), etag("b"), timestamp(5_000), timestamp(4_000));
        let ok = |conditions: ReadConditions<'_>| conditions.check(&meta("a")).is_ok();
        assert!(ok(none()));
        assert!(ok(ReadConditions {
            if_match: Some(&same),
            ..none()
        }));
        assert!(!ok(ReadConditions {
            if_match: Some(&other),
            ..none()
        }));
        assert!(!ok(ReadConditions {
            if_none_match: Some(&same),
            ..none()
        }));
        assert!(!ok(ReadConditions {
            if_modified_since: Some(&at),
            ..none()
        }));
        assert!(ok(ReadConditions {
            if_modified_since: Some(&before),
            ..none()
        }));
        assert!(!ok(ReadConditions {
            if_unmodified_since: Some(&before),
            ..none()
        }));
        assert!(ok(ReadConditions {
            if_match: Some(&same),
            if_unmodified_since: Some(&before),
            ..none()
        }));
    }

    #[test]
    fn a_wrong_checksum_is_told() {
        let promised = Promised {
            md5: None,
            sums: Checksum {
                checksum_crc32: Some("AAAAAA==".into()),
                ..Default::default()
            },
            also: None,
        };
        let mut hasher = promised.hasher(&http::HeaderMap::new());
        hasher.update(b"hello");
        let error = promised.check("", hasher, None).err().unwrap();
        assert_eq!(error.code(), &s3s::S3ErrorCode::BadDigest);
    }

    #[test]
    fn a_trailing_checksum_is_computed() {
        let mut headers = http::HeaderMap::new();
        headers.insert(
            "x-amz-trailer",
            http::HeaderValue::from_static("x-amz-checksum-crc64nvme"),
        );
        let hasher = Promised::default().hasher(&headers);
        assert!(hasher.crc64nvme.is_some() && hasher.crc32.is_none());
    }
}
