//! The triggers of a function.

use super::bounds::jitter;
use super::rules::{is_bucket, key_start, reserved_type};
use super::walk::{Fields, Node, Notes, Value, quoted};
use super::{Misfire, Schedule, Trigger};
use crate::trigger::{next_fire, parse_cron};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const KINDS: &str = "one of `event`, `object`, `http`, `schedule`";

pub(super) fn triggers(notes: &Notes, path: &str, node: Option<Node>) -> Vec<Trigger> {
    let Some(node) = node else { return Vec::new() };
    let Value::Array(nodes) = node.value else {
        notes.add(
            path,
            node.line,
            format!("found {}, expected an array of triggers", node.value.shown()),
        );
        return Vec::new();
    };
    let mut found = Vec::new();
    for (index, node) in nodes.into_iter().enumerate() {
        let (path, line) = (format!("{path}[{index}]"), node.line);
        let Some(trigger) = trigger(notes, &path, node) else {
            continue;
        };
        // Routes that are taken twice are told across the functions.
        if found.contains(&trigger) && !matches!(trigger, Trigger::Http { .. }) {
            notes.add(
                &path,
                line,
                format!("found the trigger {} twice", quoted(&trigger.to_string())),
            );
        }
        found.push(trigger);
    }
    found
}

fn trigger(notes: &Notes, path: &str, node: Node) -> Option<Trigger> {
    let is_table = matches!(node.value, Value::Table(_));
    let mut fields = Fields::of(notes, path, node);
    let (mut kinds, mut found) = (0, None);
    for kind in ["event", "object", "http", "schedule"] {
        let Some(node) = fields.take(kind) else { continue };
        let path = fields.at(kind);
        kinds += 1;
        found = match kind {
            "event" => event_trigger(notes, &path, node),
            "object" => object_trigger(Fields::of(notes, &path, node)),
            "http" => http_trigger(Fields::of(notes, &path, node)),
            _ => schedule_trigger(Fields::of(notes, &path, node)),
        };
    }
    if kinds > 1 || (kinds == 0 && is_table && fields.is_empty()) {
        fields.note(format!("found {kinds} kinds in one trigger, expected {KINDS}"));
    }
    fields.finish();
    found
}

fn event_trigger(notes: &Notes, path: &str, node: Node) -> Option<Trigger> {
    match node.value {
        Value::Text(kind) if !kind.is_empty() && !reserved_type(&kind) => Some(Trigger::Event { kind }),
        other => {
            let expected =
                "an event's type such as `DataReady`; `tidegate.invoke` goes to the function that it names";
            notes.add(
                path,
                node.line,
                format!("found {}, expected {expected}", other.shown()),
            );
            None
        }
    }
}

fn object_trigger(mut fields: Fields<'_>) -> Option<Trigger> {
    let bucket = fields.required("bucket", "the name of a bucket", is_bucket);
    let (prefix, suffix) = (
        key_start(&mut fields, "prefix"),
        fields.text("suffix").unwrap_or_default(),
    );
    fields.finish();
    Some(Trigger::Object {
        bucket: bucket?,
        prefix,
        suffix,
    })
}

fn http_trigger(mut fields: Fields<'_>) -> Option<Trigger> {
    let method = fields.parsed(
        "method",
        "one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        |method| METHODS.contains(&method).then(|| method.to_owned()),
    );
    let expected = "a route such as `/predict`, `/users/{id}` or `/files/{*rest}`, outside `/api/`, `/v2/`, `/worker/`, \
                    `/health` and `/metrics`";
    let route = fields.required("route", expected, is_route);
    fields.finish();
    Some(Trigger::Http {
        method,
        route: route?,
    })
}

pub(super) fn is_route(route: &str) -> bool {
    let reserved = ["/api/", "/v2/", "/worker/"]
        .iter()
        .any(|prefix| route.starts_with(prefix))
        || ["/health", "/metrics", "/api", "/v2", "/worker"].contains(&route);
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '?' | '#' | '\\' | '%');
    let plain = route.starts_with('/') && !route.contains("//") && !route.contains(odd);
    plain && !reserved && matchit::Router::new().insert(route, ()).is_ok()
}

fn schedule_trigger(mut fields: Fields<'_>) -> Option<Trigger> {
    let expected = "a cron expression of five fields, or six with seconds first";
    let cron = fields.required("cron", expected, |cron| parse_cron(cron).is_ok());
    let timezone = fields.parsed("timezone", "an IANA time zone such as `Europe/Berlin`", |zone| {
        zone.parse().ok()
    });
    let data = fields.parsed("data", "JSON in a string", |data| {
        serde_json::from_str::<serde_json::Value>(data)
            .is_ok()
            .then(|| data.to_owned())
    });
    let misfire = fields.parsed(
        "misfire",
        "`run_once`, `run_all` or `skip`",
        |misfire| match misfire {
            "run_once" => Some(Misfire::RunOnce),
            "run_all" => Some(Misfire::RunAll),
            "skip" => Some(Misfire::Skip),
            _ => None,
        },
    );
    let jitter = jitter(&mut fields);
    let schedule = cron.map(|cron| Schedule {
        cron,
        timezone: timezone.unwrap_or(chrono_tz::UTC),
        data: data.unwrap_or_else(|| "{}".into()),
        misfire: misfire.unwrap_or(Misfire::RunOnce),
        jitter,
    });
    if let Some(schedule) = schedule
        .as_ref()
        .filter(|schedule| next_fire(schedule, 0).is_none())
    {
        fields.note(format!(
            "found `cron` of {}, a date that never comes",
            quoted(&schedule.cron)
        ));
    }
    fields.finish();
    schedule.map(Trigger::Schedule)
}
