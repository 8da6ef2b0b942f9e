//! A prediction request, checked.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::features::{Context, Device};

/// Items of a request, at most.
pub const MAX_ITEMS: usize = 1000;
/// Bytes of a body, at most.
pub const MAX_BODY: usize = 256 << 10;
/// Seconds since the Unix epoch at the end of the year 9999.
const MAX_TIME: i64 = 253_402_300_799;
/// Characters of a found value that a message repeats.
const SHOWN: usize = 40;

/// A prediction request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// For whom.
    pub user_id: u64,
    /// The items, each once, in the order in which they were first named.
    pub item_ids: Vec<u64>,
    /// When, in seconds since the Unix epoch, where the request says so.
    pub time: Option<i64>,
    /// What on.
    pub context: Context,
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// A word for programs.
    pub code: &'static str,
    /// What was found and what is allowed.
    pub message: String,
    /// The field, where it is one field's fault.
    pub field: Option<String>,
}

#[derive(Deserialize)]
struct Body<'a> {
    user_id: u64,
    item_ids: Vec<u64>,
    #[serde(borrow, default)]
    context: Option<BodyContext<'a>>,
}

#[derive(Default, Deserialize)]
struct BodyContext<'a> {
    #[serde(borrow, default)]
    device: Option<Cow<'a, str>>,
    #[serde(default)]
    time: Option<i64>,
}

impl Ask {
    /// Reads and checks a body.
    pub fn parse(body: &[u8]) -> Result<Self, BadRequest> {
        match serde_json::from_slice::<Body<'_>>(body) {
            Ok(body) => Self::check(body),
            Err(error) => Err(diagnose(body, &error)),
        }
    }

    fn check(body: Body<'_>) -> Result<Self, BadRequest> {
        id("user_id", body.user_id)?;
        count(body.item_ids.len())?;
        for (index, item) in body.item_ids.iter().enumerate() {
            if *item > i64::MAX as u64 {
                id(&format!("item_ids[{index}]"), *item)?;
            }
        }
        let context = body.context.unwrap_or_default();
        if let Some(time) = context.time {
            seconds(time)?;
        }
        Ok(Self {
            user_id: body.user_id,
            item_ids: distinct(body.item_ids),
            time: context.time,
            context: Context {
                device: context.device.as_deref().and_then(Device::from_name),
            },
        })
    }
}

/// The ids without repetitions, in the order in which they first occur.
fn distinct(ids: Vec<u64>) -> Vec<u64> {
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    if sorted.array_windows().all(|[a, b]| a != b) {
        return ids;
    }
    sorted.dedup();
    let mut seen = vec![false; sorted.len()];
    let mut first = |id: &u64| match sorted
        .binary_search(id)
        .ok()
        .and_then(|index| seen.get_mut(index))
    {
        Some(seen) => !std::mem::replace(seen, true),
        None => true,
    };
    ids.into_iter().filter(|id| first(id)).collect()
}

fn id(field: &str, found: u64) -> Result<(), BadRequest> {
    if found <= i64::MAX as u64 {
        Ok(())
    } else {
        Err(not_an_id(field, &found.to_string()))
    }
}

fn count(found: usize) -> Result<(), BadRequest> {
    match found {
        0 => Err(BadRequest::field(
            "no_items",
            "item_ids",
            format!("found no item, allowed are 1 to {MAX_ITEMS}"),
        )),
        1..=MAX_ITEMS => Ok(()),
        _ => Err(BadRequest::field(
            "too_many_items",
            "item_ids",
            format!("found {found} items, allowed are 1 to {MAX_ITEMS}"),
        )),
    }
}

fn seconds(found: i64) -> Result<(), BadRequest> {
    if (0..=MAX_TIME).contains(&found) {
        return Ok(());
    }
    let message = format!("found {found}, allowed are seconds since the Unix epoch from 0 to {MAX_TIME}");
    Err(BadRequest::field("invalid_time", "context.time", message))
}

fn not_an_id(field: &str, found: &str) -> BadRequest {
    let message = format!("found {found}, allowed is a whole number from 0 to {}", i64::MAX);
    BadRequest::field("invalid_id", field, message)
}

impl BadRequest {
    fn field(code: &'static str, field: &str, message: String) -> Self {
        Self {
            code,
            message: format!("`{field}`: {message}"),
            field: Some(field.to_owned()),
        }
    }

    /// The body is longer than [`MAX_BODY`].
    pub fn too_large() -> Self {
        let message = format!("the body is longer than {MAX_BODY} bytes, which is what is allowed");
        Self {
            code: "body_too_large",
            message,
            field: None,
        }
    }

    /// The body could not be read to its end.
    pub fn unreadable(error: &str) -> Self {
        Self {
            code: "body_unreadable",
            message: format!("the body could not be read: {error}"),
            field: None,
        }
    }
}

/// Finds the field that a refused body is refused for. Only bodies that are wrong pay for it.
fn diagnose(body: &[u8], error: &serde_json::Error) -> BadRequest {
    if body.iter().all(u8::is_ascii_whitespace) {
        let message = "the body is empty, allowed is a JSON object with `user_id` and `item_ids`".to_owned();
        return BadRequest {
            code: "invalid_json",
            message,
            field: None,
        };
    }
    match serde_json::from_slice::<Value>(body) {
        Err(error) => BadRequest {
            code: "invalid_json",
            message: format!("the body is not JSON: {error}"),
            field: None,
        },
        Ok(value) => find_fault(&value).unwrap_or_else(|| BadRequest {
            code: "invalid_request",
            message: format!("the body is not acceptable: {error}"),
            field: None,
        }),
    }
}

fn find_fault(body: &Value) -> Option<BadRequest> {
    let Value::Object(fields) = body else {
        let message = format!(
            "the body is {}, allowed is a JSON object with `user_id` and `item_ids`",
            shown(body)
        );
        return Some(BadRequest {
            code: "invalid_request",
            message,
            field: None,
        });
    };
    let user = match fields.get("user_id") {
        None => Some(missing("user_id", "a whole number from 0")),
        Some(value) => (!is_id(value)).then(|| not_an_id("user_id", &shown(value))),
    };
    user.or_else(|| items_fault(fields.get("item_ids")))
        .or_else(|| context_fault(fields.get("context")))
}

fn items_fault(items: Option<&Value>) -> Option<BadRequest> {
    let items = match items {
        None => return Some(missing("item_ids", "a list of 1 to 1000 whole numbers from 0")),
        Some(Value::Array(items)) => items,
        Some(other) => {
            let message = format!(
                "found {}, allowed is a list of 1 to {MAX_ITEMS} ids",
                shown(other)
            );
            return Some(BadRequest::field("invalid_items", "item_ids", message));
        }
    };
    if let Err(fault) = count(items.len()) {
        return Some(fault);
    }
    let (index, odd) = items.iter().enumerate().find(|(_, value)| !is_id(value))?;
    Some(not_an_id(&format!("item_ids[{index}]"), &shown(odd)))
}

fn context_fault(context: Option<&Value>) -> Option<BadRequest> {
    let invalid = |field, value, allowed| {
        let message = format!("found {}, allowed is {allowed}", shown(value));
        Some(BadRequest::field("invalid_context", field, message))
    };
    match context? {
        Value::Null => None,
        Value::Object(fields) => {
            let device = fields
                .get("device")
                .filter(|value| !value.is_string() && !value.is_null());
            let time = fields
                .get("time")
                .filter(|value| !value.is_i64() && !value.is_null());
            match (device, time) {
                (Some(value), _) => invalid("context.device", value, "a text"),
                (None, Some(value)) => invalid(
                    "context.time",
                    value,
                    "a whole number of seconds since the Unix epoch",
                ),
                (None, None) => None,
            }
        }
        other => invalid("context", other, "an object with `device` and `time`"),
    }
}

fn missing(field: &str, allowed: &str) -> BadRequest {
    BadRequest::field(
        "missing_field",
        field,
        format!("it is missing, allowed is {allowed}"),
    )
}

fn is_id(value: &Value) -> bool {
    value.as_u64().is_some_and(|id| id <= i64::MAX as u64)
}

/// A value as a message shows it.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(body: &str) -> Result<Ask, BadRequest> {
        Ask::parse(body.as_bytes())
    }

    fn refused(body: &str, code: &str, field: Option<&str>, words: &[&str]) {
        let error = parse(body).unwrap_err();
        assert_eq!(
            (error.code, error.field.as_deref()),
            (code, field),
            "{body}: {}",
            error.message
        );
        for word in words {
            assert!(
                error.message.contains(word),
                "`{word}` is not in `{}`",
                error.message
            );
        }
    }

    #[test]
    fn a_request_is_read_with_and_without_context() {
        let ask = parse(r#"{"user_id": 7, "item_ids": [3, 1, 2]}"#).unwrap();
        assert_eq!((ask.user_id, ask.item_ids, ask.time), (7, vec![3, 1, 2], None));
        let ask = parse(
            r#"{"context":{"device":"\u0069os","time":1700000000,"x":1},"item_ids":[0],"user_id":0,"trace":"a"}"#,
        );
        let ask = ask.unwrap();
        assert_eq!(
            (ask.time, ask.context.device),
            (Some(1_700_000_000), Some(Device::Phone))
        );
        assert!(parse(r#"{"user_id":1,"item_ids":[1],"context":null}"#).is_ok());
    }

    #[test]
    fn repeated_items_are_ranked_once() {
        assert_eq!(
            parse(r#"{"user_id":1,"item_ids":[5,3,5,5,3,4]}"#)
                .unwrap()
                .item_ids,
            [5, 3, 4]
        );
    }

    #[test]
    fn each_mistake_names_the_field_what_was_found_and_what_is_allowed() {
        refused("", "invalid_json", None, &["empty"]);
        refused(
            r#"{"user_id": 1, "#,
            "invalid_json",
            None,
            &["not JSON", "line 1"],
        );
        refused("[1]", "invalid_request", None, &["[1]", "object"]);
        refused(
            r#"{"item_ids":[1]}"#,
            "missing_field",
            Some("user_id"),
            &["missing"],
        );
        refused(
            r#"{"user_id":1}"#,
            "missing_field",
            Some("item_ids"),
            &["missing", "1000"],
        );
        refused(
            r#"{"user_id":-1,"item_ids":[1]}"#,
            "invalid_id",
            Some("user_id"),
            &["-1", "from 0"],
        );
        refused(
            r#"{"user_id":"a","item_ids":[1]}"#,
            "invalid_id",
            Some("user_id"),
            &["\"a\""],
        );
        refused(
            r#"{"user_id":1,"item_ids":[1,-2]}"#,
            "invalid_id",
            Some("item_ids[1]"),
            &["-2"],
        );
        refused(
            r#"{"user_id":1,"item_ids":[1.5]}"#,
            "invalid_id",
            Some("item_ids[0]"),
            &["1.5"],
        );
        refused(
            r#"{"user_id":1,"item_ids":{}}"#,
            "invalid_items",
            Some("item_ids"),
            &["{}", "list"],
        );
        refused(
            r#"{"user_id":1,"item_ids":[]}"#,
            "no_items",
            Some("item_ids"),
            &["1 to 1000"],
        );
        refused(
            r#"{"user_id":18446744073709551615,"item_ids":[1]}"#,
            "invalid_id",
            Some("user_id"),
            &["1844"],
        );
        let context = |context: &str| format!(r#"{{"user_id":1,"item_ids":[1],"context":{context}}}"#);
        refused(
            &context("3"),
            "invalid_context",
            Some("context"),
            &["3", "object"],
        );
        refused(
            &context(r#"{"device":5}"#),
            "invalid_context",
            Some("context.device"),
            &["5", "text"],
        );
        refused(
            &context(r#"{"time":"noon"}"#),
            "invalid_context",
            Some("context.time"),
            &["noon", "seconds"],
        );
        refused(
            &context(r#"{"time":-1}"#),
            "invalid_time",
            Some("context.time"),
            &["-1", "seconds"],
        );
        refused(
            r#"{"user_id":1,"user_id":2,"item_ids":[1]}"#,
            "invalid_request",
            None,
            &["duplicate"],
        );
    }

    #[test]
    fn ten_thousand_items_are_too_many() {
        let ids = vec!["1"; 10_000].join(",");
        let body = format!(r#"{{"user_id":1,"item_ids":[{ids}]}}"#);
        refused(&body, "too_many_items", Some("item_ids"), &["10000", "1000"]);
    }

    #[test]
    fn a_long_value_is_shown_shortened() {
        let body = format!(r#"{{"user_id":"{}","item_ids":[1]}}"#, "é".repeat(1000));
        assert!(parse(&body).unwrap_err().message.len() < 250);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Ask::parse(&bytes);
        }

        #[test]
        fn ids_come_out_once_each_in_order(ids in proptest::collection::vec(0..30u64, 1..60)) {
            let mut wanted = Vec::new();
            for id in &ids {
                if !wanted.contains(id) {
                    wanted.push(*id);
                }
            }
            prop_assert_eq!(distinct(ids), wanted);
        }
    }
}
