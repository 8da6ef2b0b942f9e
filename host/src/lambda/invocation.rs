//! What Lambda invokes the host with.

use serde::Deserialize;
use serde_json::Value;

use super::http::Request;
use super::queue::Record;

/// An invocation.
pub(super) enum Invocation {
    /// A request, of a function URL or of API Gateway (payload 2.0).
    Http(Box<Request>),
    /// Messages of SQS.
    Messages(Vec<Record>),
    /// A notice, of S3 itself or of EventBridge.
    Notice(String),
    /// A schedule of EventBridge: what is due is fired, and what was left undone is finished.
    Tick,
    /// Somebody wants the package's app deployed.
    Deploy,
}

/// Why an invocation is not one.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    /// Nobody sends this.
    #[error(
        "an event with {0}, expected a request of a function URL or of API Gateway (payload 2.0), `Records` of SQS or \
         S3, an event of EventBridge from `aws.s3` or `aws.events`, `{{\"tidegate\": \"tick\"}}` or \
         `{{\"tidegate\": \"deploy\"}}`"
    )]
    Event(String),
    /// A part of it is missing.
    #[error("an event that cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Invocation {
    pub(super) fn of(event: Value) -> Result<Self, Unknown> {
        let text = |place: &str| event.pointer(place).and_then(Value::as_str);
        let records = text("/Records/0/eventSource");
        match (records, text("/source"), text("/tidegate")) {
            (Some("aws:sqs"), ..) => Ok(Self::Messages(Vec::deserialize(&event["Records"])?)),
            (Some("aws:s3"), ..) | (_, Some("aws.s3"), _) => Ok(Self::Notice(event.to_string())),
            (_, Some("aws.events" | "aws.scheduler"), _) | (.., Some("tick")) => Ok(Self::Tick),
            (.., Some("deploy")) => Ok(Self::Deploy),
            _ if event.pointer("/requestContext/http").is_some() => {
                Ok(Self::Http(Box::new(Request::deserialize(&event)?)))
            }
            _ => Err(Unknown::Event(keys(&event))),
        }
    }
}

fn keys(event: &Value) -> String {
    let keys = event.as_object().map(|object| object.keys().take(8));
    let keys: Vec<String> = keys.into_iter().flatten().map(|key| format!("`{key}`")).collect();
    match keys.is_empty() {
        true => "no keys".into(),
        false => keys.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(event: Value) -> Result<&'static str, String> {
        Ok(match Invocation::of(event).map_err(|error| error.to_string())? {
            Invocation::Http(_) => "http",
            Invocation::Messages(_) => "messages",
            Invocation::Notice(_) => "notice",
            Invocation::Tick => "tick",
            Invocation::Deploy => "deploy",
        })
    }

    #[test]
    fn what_an_event_is_is_told_by_its_shape() {
        let sqs = json!({ "Records": [{ "messageId": "m", "body": "{}", "eventSource": "aws:sqs" }] });
        assert_eq!(of(sqs).unwrap(), "messages");
        assert_eq!(
            of(json!({ "Records": [{ "eventSource": "aws:s3" }] })).unwrap(),
            "notice"
        );
        assert_eq!(
            of(json!({ "source": "aws.s3", "detail-type": "Object Created" })).unwrap(),
            "notice"
        );
        assert_eq!(
            of(json!({ "source": "aws.events", "detail-type": "Scheduled Event" })).unwrap(),
            "tick"
        );
        assert_eq!(of(json!({ "tidegate": "tick" })).unwrap(), "tick");
        assert_eq!(of(json!({ "tidegate": "deploy" })).unwrap(), "deploy");
        let http =
            json!({ "rawPath": "/", "requestContext": { "stage": "$default", "http": { "method": "GET" } } });
        assert_eq!(of(http).unwrap(), "http");
    }

    #[test]
    fn what_nobody_sends_says_what_was_found() {
        let told = of(json!({ "order": 7 })).unwrap_err();
        assert!(
            told.starts_with("an event with `order`, expected a request of a function URL"),
            "{told}"
        );
        assert!(of(json!([])).unwrap_err().starts_with("an event with no keys"));
        let cut = of(json!({ "Records": [{ "eventSource": "aws:sqs" }] })).unwrap_err();
        assert!(
            cut.starts_with("an event that cannot be read: missing field"),
            "{cut}"
        );
    }
}
