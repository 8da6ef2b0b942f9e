//! Keys: what events of a function have in common that are not to be handled at the same time.

use serde_json::Value;

use crate::event::Event;
use crate::store::Group;

/// Bytes of an expression at most.
const LONGEST: usize = 255;

/// How a function's events are told apart, and how those of one key are handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    /// Where the key is.
    pub of: KeyPath,
    /// Invocations for one key at one time; from 1 to 1,000, 1 by default.
    pub concurrency: u32,
    /// Whether an event waits until those of its key that were queued before it are done or dead.
    pub ordered: bool,
}

/// Where in an event its key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPath {
    /// The subject.
    Subject,
    /// The source.
    Source,
    /// The type.
    Kind,
    /// A value within its data, as a JSON pointer (RFC 6901).
    Data(String),
}

impl KeyPath {
    /// Reads `subject`, `source`, `type`, or `data.a.b`.
    pub(super) fn read(text: &str) -> Option<Self> {
        match text {
            "subject" => Some(Self::Subject),
            "source" => Some(Self::Source),
            "type" => Some(Self::Kind),
            _ => Self::within_data(text),
        }
    }

    fn within_data(text: &str) -> Option<Self> {
        let path = text.strip_prefix("data.")?;
        let names = path.split('.');
        if text.len() > LONGEST || names.clone().any(str::is_empty) {
            return None;
        }
        let escaped = names.map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")));
        Some(Self::Data(escaped.collect()))
    }

    /// The key of an event. What has none there, or cannot be read, has the empty key.
    pub fn key(&self, event: &Event) -> String {
        match self {
            Self::Subject => event.subject.clone().unwrap_or_default(),
            Self::Source => event.source.clone(),
            Self::Kind => event.kind.clone(),
            Self::Data(pointer) => {
                let data: Value = serde_json::from_slice(&event.data).unwrap_or_default();
                match data.pointer(pointer) {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                }
            }
        }
    }
}

impl KeySpec {
    /// The group in which an event of the function is queued: its key, or where several events of a key may be
    /// handled at one time, one of as many lanes.
    pub fn group(&self, event: &Event) -> Group {
        let key = self.of.key(event);
        let lane = match self.concurrency {
            1 => 0,
            lanes => Group::of(event.id.as_bytes()).among(lanes),
        };
        Group::of(format!("{lane}/{key}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn event(id: &str, data: &str) -> Event {
        Event {
            id: id.into(),
            source: "/events".into(),
            kind: "Click".into(),
            subject: Some("s".into()),
            time: 0,
            content_type: None,
            data: Bytes::copy_from_slice(data.as_bytes()),
            traceparent: String::new(),
            run: id.into(),
            parent: None,
            part_of: None,
        }
    }

    fn key(path: &str, data: &str) -> String {
        KeyPath::read(path).unwrap().key(&event("e", data))
    }

    #[test]
    fn a_key_is_an_attribute_or_a_value_within_the_data() {
        assert_eq!(
            [key("subject", ""), key("source", ""), key("type", "")],
            ["s", "/events", "Click"]
        );
        assert_eq!(key("data.user.id", r#"{"user":{"id":"u1"}}"#), "u1");
        assert_eq!(key("data.items.1", r#"{"items":[3,[4,5]]}"#), "[4,5]");
        assert_eq!(key("data.a/b~", r#"{"a/b~":7}"#), "7");
    }

    #[test]
    fn what_has_no_key_has_the_empty_one() {
        for data in ["", "no JSON", "7", "{}", r#"{"user":null}"#, r#"{"user":""}"#] {
            assert_eq!(key("data.user", data), "", "{data}");
        }
    }

    #[test]
    fn an_expression_is_one_of_four_kinds() {
        for wrong in [
            "",
            "id",
            "data",
            "data.",
            "data..a",
            "subject.a",
            &format!("data.{}", "a".repeat(300)),
        ] {
            assert_eq!(KeyPath::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_has_as_many_lanes_as_it_may_have_invocations() {
        let spec = |concurrency| KeySpec {
            of: KeyPath::Data("/user".into()),
            concurrency,
            ordered: false,
        };
        let groups = |concurrency, user: &str| -> std::collections::BTreeSet<Group> {
            let data = format!(r#"{{"user":"{user}"}}"#);
            let events = (0..200).map(|n| event(&n.to_string(), &data));
            events.map(|event| spec(concurrency).group(&event)).collect()
        };
        assert_eq!((groups(1, "a").len(), groups(3, "a").len()), (1, 3));
        assert!(groups(3, "a").is_disjoint(&groups(3, "b")));
    }
}
