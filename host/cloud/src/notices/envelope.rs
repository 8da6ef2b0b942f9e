//! What comes from a queue or as a Lambda event: S3's own words, in the envelope of SNS, or EventBridge's.

use serde::Deserialize;
use serde_json::Value;

use super::Notice;
use super::record::{Detail, Record};

/// Why a message is no notice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not JSON, or a part is missing.
    #[error("a notice that cannot be read: {0}")]
    Malformed(String),
    /// It is something else.
    #[error(
        "a message with {found}, expected S3's `Records`, an envelope of SNS with a `Message`, or an event of \
         EventBridge from `aws.s3`"
    )]
    Other {
        /// Its keys.
        found: String,
    },
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

#[derive(Deserialize)]
struct Sns {
    #[serde(rename = "Message")]
    message: String,
}

#[derive(Deserialize)]
struct Bridge {
    #[serde(rename = "detail-type")]
    kind: String,
    id: String,
    time: String,
    region: String,
    detail: Detail,
}

/// Reads a message: its notices, none where it is a test that S3 sends, or tells of nothing that is kept here.
pub fn read(text: &str) -> Result<Vec<Notice>, Unreadable> {
    let message: Value = serde_json::from_str(text)?;
    match message.get("Type").and_then(Value::as_str) {
        Some("Notification") => {
            let Sns { message } = Sns::deserialize(&message)?;
            unwrapped(serde_json::from_str(&message)?)
        }
        _ => unwrapped(message),
    }
}

fn unwrapped(message: Value) -> Result<Vec<Notice>, Unreadable> {
    if message.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
        return Ok(Vec::new());
    }
    if let Some(records) = message.get("Records").and_then(Value::as_array) {
        let notices = records
            .iter()
            .map(|record| Record::deserialize(record)?.notice(record));
        return notices.filter_map(Result::transpose).collect();
    }
    if message.get("source").and_then(Value::as_str) == Some("aws.s3") {
        let bridge = Bridge::deserialize(&message)?;
        let notice = bridge
            .detail
            .notice(&bridge.kind, &bridge.time, &bridge.region, &message)?;
        // What has no request of its own is told apart by the event.
        return Ok(notice
            .map(|notice| Notice {
                request: Some(bridge.id),
                ..notice
            })
            .into_iter()
            .collect());
    }
    let keys = message.as_object().map(|object| object.keys().take(8));
    let keys: Vec<String> = keys.into_iter().flatten().map(|key| format!("`{key}`")).collect();
    Err(Unreadable::Other {
        found: if keys.is_empty() {
            "no keys".into()
        } else {
            keys.join(", ")
        },
    })
}
