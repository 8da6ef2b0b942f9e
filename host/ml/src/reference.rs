//! Model references: `name`, `name@alias`, `name@version` or `name@uri:bucket/key`.

use std::fmt;
use std::str::FromStr;

use crate::registry::CHAMPION;

/// Bytes of a model's name or of an alias, at most.
const NAME_BYTES: usize = 64;
/// Begins the target that names an object.
const URI: &str = "uri:";

/// A model by name, and which of its versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// The model's name.
    pub name: String,
    /// Which version of it.
    pub target: Target,
}

/// Which version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// The version that an alias points at; `champion` where the reference names none.
    Alias(String),
    /// A registered version.
    Version(u64),
    /// A model file, registered or not.
    Object {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
}

/// Why a text is no model reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The part before `@`.
    #[error(
        "model name `{0}` is not acceptable, allowed are 1 to {NAME_BYTES} of `a-z`, `A-Z`, `0-9`, `-`, `_` and `.`"
    )]
    Name(String),
    /// The part after `@`.
    #[error(
        "model target `{0}` is not acceptable, allowed are an alias, a version from 1, and `uri:bucket/key`"
    )]
    Target(String),
}

impl ModelRef {
    /// The model's version under the alias `champion`.
    pub fn champion(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            target: Target::Alias(CHAMPION.to_owned()),
        }
    }

    /// A model file that need not be registered.
    pub fn object(name: &str, bucket: &str, key: &str) -> Self {
        let target = Target::Object {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        };
        Self {
            name: name.to_owned(),
            target,
        }
    }
}

impl FromStr for ModelRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, target) = match text.split_once('@') {
            Some((name, target)) => (name, Some(target)),
            None => (text, None),
        };
        if !is_name(name) {
            return Err(ReferenceError::Name(name.to_owned()));
        }
        let target = match target {
            Some(target) => parse_target(target).ok_or_else(|| ReferenceError::Target(target.to_owned()))?,
            None => Target::Alias(CHAMPION.to_owned()),
        };
        Ok(Self {
            name: name.to_owned(),
            target,
        })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Alias(alias) => write!(to, "{}@{alias}", self.name),
            Target::Version(version) => write!(to, "{}@{version}", self.name),
            Target::Object { bucket, key } => write!(to, "{}@{URI}{bucket}/{key}", self.name),
        }
    }
}

fn parse_target(target: &str) -> Option<Target> {
    if let Some(uri) = target.strip_prefix(URI) {
        let (bucket, key) = uri.split_once('/')?;
        let object = Target::Object {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        };
        return (!bucket.is_empty() && !key.is_empty()).then_some(object);
    }
    if target.bytes().all(|byte| byte.is_ascii_digit()) {
        return target
            .parse()
            .ok()
            .filter(|&version| version > 0)
            .map(Target::Version);
    }
    is_name(target).then(|| Target::Alias(target.to_owned()))
}

/// Whether a text can name a model or an alias.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Target, ReferenceError> {
        text.parse::<ModelRef>().map(|reference| reference.target)
    }

    #[test]
    fn a_bare_name_means_the_champion() {
        assert_eq!("ranker".parse(), Ok(ModelRef::champion("ranker")));
    }

    #[test]
    fn each_kind_of_target_is_told_apart() {
        assert_eq!(parse("ranker@candidate"), Ok(Target::Alias("candidate".into())));
        assert_eq!(parse("ranker@7"), Ok(Target::Version(7)));
        assert_eq!(
            parse("ranker@uri:models/ranker/a@b/model.onnx"),
            Ok(Target::Object {
                bucket: "models".into(),
                key: "ranker/a@b/model.onnx".into()
            })
        );
    }

    #[test]
    fn a_mistake_names_the_part_and_what_is_allowed() {
        for text in ["", "@1", "ran ker", "ran/ker@1"] {
            assert!(matches!(parse(text), Err(ReferenceError::Name(_))), "{text}");
        }
        for text in [
            "r@",
            "r@0",
            "r@a b",
            "r@uri:",
            "r@uri:bucket",
            "r@uri:/key",
            "r@99999999999999999999",
        ] {
            assert!(matches!(parse(text), Err(ReferenceError::Target(_))), "{text}");
        }
        let error = parse("r@0").unwrap_err().to_string();
        assert!(error.contains("`0`") && error.contains("allowed"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_and_what_is_parsed_prints_back(text in "[a-z@:/0-9. ]{0,20}") {
            if let Ok(reference) = text.parse::<ModelRef>() {
                prop_assert_eq!(reference.to_string().parse::<ModelRef>().unwrap(), reference);
            }
        }
    }
}
