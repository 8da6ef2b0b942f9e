//! Checksums that are kept: with an object, to be told by a read that asks; with a part, to be compared and
//! joined when its upload is completed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, ChecksumAlgorithm, ChecksumType, CompletedPart};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

/// How a checksum is called among the metadata that is kept: no client can send such a name.
const KEPT: &str = ":checksum-";
/// What kind of checksum a kept one is.
const TYPE: &str = ":checksum-type";

/// The checksums of a body, each with its name.
pub(super) fn named(sums: &Checksum) -> [(&'static str, &Option<String>); 5] {
    [
        ("crc32", &sums.checksum_crc32),
        ("crc32c", &sums.checksum_crc32c),
        ("crc64nvme", &sums.checksum_crc64nvme),
        ("sha1", &sums.checksum_sha1),
        ("sha256", &sums.checksum_sha256),
    ]
}

/// The checksums of a body, to be changed, each with its name.
pub(super) fn named_mut(sums: &mut Checksum) -> [(&'static str, &mut Option<String>); 5] {
    [
        ("crc32", &mut sums.checksum_crc32),
        ("crc32c", &mut sums.checksum_crc32c),
        ("crc64nvme", &mut sums.checksum_crc64nvme),
        ("sha1", &mut sums.checksum_sha1),
        ("sha256", &mut sums.checksum_sha256),
    ]
}

/// A hasher for the checksums that are wanted.
pub(super) fn hasher(wanted: impl Fn(&str) -> bool) -> ChecksumHasher {
    ChecksumHasher {
        crc32: wanted("crc32").then(Default::default),
        crc32c: wanted("crc32c").then(Default::default),
        crc64nvme: wanted("crc64nvme").then(Default::default),
        sha1: wanted("sha1").then(Default::default),
        sha256: wanted("sha256").then(Default::default),
    }
}

/// Tells checksums in an output, or takes them from an input: their five fields have the same names everywhere.
macro_rules! copy_sums {
    ($from:expr => $to:expr) => {
        $to.checksum_crc32.clone_from(&$from.checksum_crc32);
        $to.checksum_crc32c.clone_from(&$from.checksum_crc32c);
        $to.checksum_crc64nvme.clone_from(&$from.checksum_crc64nvme);
        $to.checksum_sha1.clone_from(&$from.checksum_sha1);
        $to.checksum_sha256.clone_from(&$from.checksum_sha256);
    };
}
pub(super) use copy_sums;

/// Puts checksums among the metadata of an object or a part.
pub(super) fn keep(sums: &Checksum, user: &mut BTreeMap<String, String>) {
    for (name, sum) in named(sums) {
        user.extend(sum.clone().map(|sum| (format!("{KEPT}{name}"), sum)));
    }
    if named(sums).iter().any(|(_, sum)| sum.is_some()) {
        let kind = sums.checksum_type.as_ref().map(ChecksumType::as_str);
        user.insert(TYPE.into(), kind.unwrap_or(ChecksumType::FULL_OBJECT).to_owned());
    }
}

/// Takes checksums from among the metadata.
pub(super) fn take(user: &mut BTreeMap<String, String>) -> Checksum {
    let mut sums = Checksum {
        checksum_type: user.remove(TYPE).map(ChecksumType::from),
        ..Checksum::default()
    };
    for (name, sum) in named_mut(&mut sums) {
        *sum = user.remove(&format!("{KEPT}{name}"));
    }
    sums
}

/// The checksum that an upload is to have, as its beginning asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// For example `crc32`.
    name: String,
    /// Made of the checksums of the parts, not of all bytes.
    composite: bool,
}

impl Wanted {
    /// What a client asks for; S3's own choice where it leaves one.
    pub(super) fn new(
        algorithm: Option<&ChecksumAlgorithm>,
        kind: Option<&ChecksumType>,
    ) -> S3Result<Option<Self>> {
        let Some(algorithm) = algorithm.map(ChecksumAlgorithm::as_str) else {
            return Ok(None);
        };
        let (full, parts) = match algorithm {
            ChecksumAlgorithm::CRC32 | ChecksumAlgorithm::CRC32C => (true, true),
            ChecksumAlgorithm::CRC64NVME => (true, false),
            ChecksumAlgorithm::SHA1 | ChecksumAlgorithm::SHA256 => (false, true),
            other => return Err(s3_error!(InvalidRequest, "the checksum algorithm is `{other}`")),
        };
        let composite = match kind.map(ChecksumType::as_str) {
            None => parts,
            Some(ChecksumType::COMPOSITE) if parts => true,
            Some(ChecksumType::FULL_OBJECT) if full => false,
            Some(other) => {
                return Err(s3_error!(
                    InvalidRequest,
                    "a checksum {algorithm} of an upload cannot be of the type `{other}`"
                ));
            }
        };
        let name = algorithm.to_ascii_lowercase();
        Ok(Some(Self { name, composite }))
    }

    /// Whether it is the checksum of this name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// The type, as S3 calls it.
    pub(super) fn kind(&self) -> ChecksumType {
        ChecksumType::from_static(if self.composite {
            ChecksumType::COMPOSITE
        } else {
            ChecksumType::FULL_OBJECT
        })
    }

    /// A hasher of all bytes, where the checksum is made of them.
    pub(super) fn of_bytes(this: Option<&Self>) -> ChecksumHasher {
        hasher(|name| this.is_some_and(|wanted| !wanted.composite && wanted.is(name)))
    }

    /// The checksum of the object: of its bytes, or of the checksums of its parts.
    pub(super) fn of_object(&self, bytes: ChecksumHasher, parts: &[Checksum]) -> S3Result<Checksum> {
        let mut sums = if self.composite {
            self.of_parts(parts)?
        } else {
            bytes.finalize()
        };
        sums.checksum_type = Some(self.kind());
        Ok(sums)
    }

    fn of_parts(&self, parts: &[Checksum]) -> S3Result<Checksum> {
        let mut hasher = hasher(|name| self.is(name));
        for part in parts {
            let sum = named(part).into_iter().find(|(name, _)| self.is(name));
            let sum = sum.and_then(|(_, sum)| STANDARD.decode(sum.as_ref()?).ok());
            let sum = sum.ok_or_else(|| s3_error!(InvalidPart, "a part has no checksum {}", self.name))?;
            hasher.update(&sum);
        }
        let mut sums = hasher.finalize();
        for (_, sum) in named_mut(&mut sums) {
            *sum = sum.take().map(|sum| format!("{sum}-{}", parts.len()));
        }
        Ok(sums)
    }
}

/// Refuses a part whose checksum is not the one that the client names.
pub(super) fn check_part(number: i32, named_by_client: &CompletedPart, kept: &Checksum) -> S3Result<()> {
    let mut sent = Checksum::default();
    copy_sums!(named_by_client => sent);
    match difference(&sent, kept) {
        None => Ok(()),
        Some((name, sent, found)) => Err(s3_error!(
            InvalidPart,
            "part {number} has the checksum {name} `{found}`, not `{sent}`"
        )),
    }
}

/// The first checksum that was sent and is another one than was found.
pub(super) fn difference<'a>(
    sent: &'a Checksum,
    found: &'a Checksum,
) -> Option<(&'static str, &'a str, &'a str)> {
    named(sent)
        .into_iter()
        .zip(named(found))
        .find_map(|((name, sent), (_, found))| {
            let (sent, found) = (sent.as_deref()?, found.as_deref()?);
            (sent != found).then_some((name, sent, found))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc32(text: &str) -> Checksum {
        let mut hasher = hasher(|name| name == "crc32");
        hasher.update(text.as_bytes());
        hasher.finalize()
    }

    fn wanted(algorithm: &'static str, kind: Option<&'static str>) -> Option<Wanted> {
        let kind = kind.map(ChecksumType::from_static);
        Wanted::new(Some(&ChecksumAlgorithm::from_static(algorithm)), kind.as_ref())
            .ok()
            .flatten()
    }

    #[test]
    fn what_is_kept_is_taken_again_and_leaves_the_clients_own() {
        let mut user = BTreeMap::from([("colour".to_owned(), "blue".to_owned())]);
        keep(&Checksum::default(), &mut user);
        assert_eq!(user.len(), 1);
        keep(&crc32("a"), &mut user);
        let sums = take(&mut user);
        assert_eq!(sums.checksum_crc32, crc32("a").checksum_crc32);
        assert_eq!(sums.checksum_type.unwrap().as_str(), "FULL_OBJECT");
        assert_eq!(user.len(), 1);
    }

    #[test]
    fn an_upload_has_the_type_that_s3_gives_its_algorithm() {
        assert!(wanted("CRC32", None).unwrap().composite);
        assert!(!wanted("CRC32", Some("FULL_OBJECT")).unwrap().composite);
        assert!(!wanted("CRC64NVME", None).unwrap().composite);
        assert_eq!(wanted("CRC64NVME", Some("COMPOSITE")), None);
        assert_eq!(wanted("SHA256", Some("FULL_OBJECT")), None);
        assert_eq!(wanted("MD4", None), None);
        assert_eq!(Wanted::new(None, None).unwrap(), None);
    }

    #[test]
    fn a_composite_checksum_is_made_of_those_of_the_parts_and_a_full_one_of_the_bytes() {
        let parts = [crc32("ab"), crc32("c")];
        let composite = wanted("CRC32", None).unwrap();
        let sums = composite.of_object(hasher(|_| false), &parts).unwrap();
        let mut by_hand = hasher(|name| name == "crc32");
        for part in &parts {
            by_hand.update(&STANDARD.decode(part.checksum_crc32.as_ref().unwrap()).unwrap());
        }
        let expected = format!("{}-2", by_hand.finalize().checksum_crc32.unwrap());
        assert_eq!(sums.checksum_crc32, Some(expected));
        assert!(
            composite
                .of_object(hasher(|_| false), &[Checksum::default()])
                .is_err()
        );

        let full = wanted("CRC32", Some("FULL_OBJECT")).unwrap();
        let mut bytes = Wanted::of_bytes(Some(&full));
        bytes.update(b"abc");
        let sums = full.of_object(bytes, &parts).unwrap();
        assert_eq!(sums.checksum_crc32, crc32("abc").checksum_crc32);
    }

    #[test]
    fn a_part_with_another_checksum_is_refused() {
        let mut part = CompletedPart::default();
        copy_sums!(crc32("a") => part);
        assert!(check_part(1, &part, &crc32("a")).is_ok());
        assert!(check_part(1, &part, &crc32("b")).is_err());
        assert!(check_part(1, &CompletedPart::default(), &crc32("b")).is_ok());
    }
}
