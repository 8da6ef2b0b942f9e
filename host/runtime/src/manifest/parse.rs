//! From TOML to the model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::grants::{EventGrants, HttpGrants, InferenceGrants, JobGrants, NameGrants, ObjectGrants};
use super::values::{duration, size};
use super::walk::{Fields, Node, Notes, Value, parse};
use super::{App, BucketPrefix, Function, Grants, Limits, Manifest, Misfire, Mistake, RecordSpec, Retry, Schedule, Trigger};

const NAME: &str = "1 to 63 lower-case letters, digits, `-` and `_`, starting with a letter";

pub(super) fn manifest(text: &str) -> Result<Manifest, Vec<Mistake>> {
    let root = parse(text)?;
    let notes = Notes::default();
    let mut fields = Fields::of(&notes, "", root);
    let mut app = fields.table("app");
    let name = app.required("name", NAME, is_name);
    app.finish();
    let functions = functions(&notes, fields.take("function"), fields.line);
    fields.finish();
    refuse_doubles(&notes, &functions);
    let list = notes.into_list();
    if !list.is_empty() {
        return Err(list);
    }
    let functions = functions.into_iter().map(|(function, _)| function).collect();
    Ok(Manifest { app: App { name }, functions, text: text.to_owned() })
}

fn functions(notes: &Notes, node: Option<Node>, line: usize) -> Vec<(Function, usize)> {
    match node {
        Some(Node { value: Value::Array(nodes), .. }) if !nodes.is_empty() => {
            nodes.into_iter().enumerate().map(|(index, node)| function(notes, index, node)).collect()
        }
        Some(node) => {
            notes.add("function", node.line, format!("found {}, expected `[[function]]` tables", node.value.shown()));
            Vec::new()
        }
        None => {
            notes.add("function", line, "missing, expected at least one `[[function]]`");
            Vec::new()
        }
    }
}

fn function(notes: &Notes, index: usize, node: Node) -> (Function, usize) {
    let line = node.line;
    let path = match &node.value {
        Value::Table(entries) => match entries.get("name").map(|name| &name.value) {
            Some(Value::Text(name)) => format!("function.{name}"),
            _ => format!("function[{index}]"),
        },
        _ => format!("function[{index}]"),
    };
    let mut fields = Fields::of(notes, &path, node);
    let function = Function {
        name: fields.required("name", NAME, is_name),
        component: PathBuf::from(fields.required("component", "the path of a `.wasm` file", |path| !path.is_empty())),
        description: fields.text("description"),
        triggers: triggers(notes, &fields.at("trigger"), fields.take("trigger")),
        grants: grants(fields.table("grants")),
        limits: limits(fields.table("limits")),
        retry: retry(fields.table("retry")),
        variables: variables(notes, fields.table("variables")),
        record: fields.take("record").map(|node| record(Fields::of(notes, &format!("{path}.record"), node))),
    };
    fields.finish();
    (function, line)
}

fn triggers(notes: &Notes, path: &str, node: Option<Node>) -> Vec<Trigger> {
    let Some(node) = node else { return Vec::new() };
    match node.value {
        Value::Array(nodes) => nodes.into_iter().filter_map(|node| trigger(notes, path, node)).collect(),
        other => {
            notes.add(path, node.line, format!("found {}, expected an array of triggers", other.shown()));
            Vec::new()
        }
    }
}

fn trigger(notes: &Notes, path: &str, node: Node) -> Option<Trigger> {
    let mut fields = Fields::of(notes, path, node);
    let mut found = Vec::new();
    if let Some(kind) = fields.text("event") {
        found.push(Trigger::Event { kind });
    }
    if let Some(node) = fields.take("object") {
        found.push(object_trigger(Fields::of(notes, &fields.at("object"), node)));
    }
    if let Some(node) = fields.take("http") {
        found.push(http_trigger(Fields::of(notes, &fields.at("http"), node)));
    }
    if let Some(node) = fields.take("schedule") {
        found.extend(schedule_trigger(Fields::of(notes, &fields.at("schedule"), node)));
    }
    let line = fields.line;
    fields.finish();
    if found.len() > 1 {
        notes.add(path, line, "found more than one kind in one trigger, expected one of `event`, `object`, `http`, `schedule`");
    }
    found.pop()
}

fn object_trigger(mut fields: Fields<'_>) -> Trigger {
    let trigger = Trigger::Object {
        bucket: fields.required("bucket", "a bucket", is_bucket),
        prefix: fields.text("prefix").unwrap_or_default(),
        suffix: fields.text("suffix").unwrap_or_default(),
    };
    fields.finish();
    trigger
}

fn http_trigger(mut fields: Fields<'_>) -> Trigger {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let method = fields.parsed("method", "one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS", |method| {
        METHODS.contains(&method).then(|| method.to_owned())
    });
    let expected = "a route such as `/predict`, `/users/{id}` or `/files/{*rest}`, outside `/api/`, `/worker/`, `/health` and `/metrics`";
    let route = fields.required("route", expected, is_route);
    fields.finish();
    Trigger::Http { method, route }
}

fn schedule_trigger(mut fields: Fields<'_>) -> Option<Trigger> {
    let cron = fields.required("cron", "a cron expression of five fields, or six with seconds first", |cron| {
        crate::trigger::parse_cron(cron).is_ok()
    });
    let timezone = fields.parsed("timezone", "an IANA time zone such as `Europe/Berlin`", |zone| zone.parse().ok());
    let data = fields.parsed("data", "JSON", |data| {
        serde_json::from_str::<serde_json::Value>(data).is_ok().then(|| data.to_owned())
    });
    let misfire = fields.parsed("misfire", "`run_once` or `skip`", |misfire| match misfire {
        "run_once" => Some(Misfire::RunOnce),
        "skip" => Some(Misfire::Skip),
        _ => None,
    });
    fields.finish();
    (!cron.is_empty()).then(|| {
        Trigger::Schedule(Schedule {
            cron,
            timezone: timezone.unwrap_or(chrono_tz::UTC),
            data: data.unwrap_or_else(|| "{}".into()),
            misfire: misfire.unwrap_or(Misfire::RunOnce),
        })
    })
}

fn grants(mut fields: Fields<'_>) -> Grants {
    let mut objects = fields.table("objects");
    let object_grants = ObjectGrants { read: objects.list("read", place), write: objects.list("write", place) };
    objects.finish();
    let named = |mut fields: Fields<'_>| {
        let grants = NameGrants { read: fields.list("read", granted_name), write: fields.list("write", granted_name) };
        fields.finish();
        grants
    };
    let one = |mut fields: Fields<'_>, key| {
        let names = fields.list(key, granted_name);
        fields.finish();
        names
    };
    let grants = Grants {
        objects: object_grants,
        state: named(fields.table("state")),
        events: EventGrants { emit: one(fields.table("events"), "emit") },
        jobs: JobGrants { submit: one(fields.table("jobs"), "submit") },
        inference: InferenceGrants { infer: one(fields.table("inference"), "infer") },
        features: named(fields.table("features")),
        secrets: fields.list("secrets", granted_name),
        http: HttpGrants { hosts: one(fields.table("http"), "hosts") },
    };
    fields.finish();
    grants
}

fn limits(mut fields: Fields<'_>) -> Limits {
    const BYTES: &str = "a size such as `64MiB`";
    let default = Limits::default();
    let limits = Limits {
        memory: fields
            .parsed("memory", "a size from `1MiB` to `4GiB`, such as `64MiB`", |text| {
                size(text).filter(|bytes| (1 << 20..=4 << 30).contains(bytes))
            })
            .unwrap_or(default.memory),
        wall_time: fields
            .parsed("wall_time", "a duration up to `1h`, such as `30s`", |text| {
                duration(text).filter(|time| (1..=3_600_000).contains(&time.as_millis()))
            })
            .unwrap_or(default.wall_time),
        concurrency: fields.number("concurrency", 1..=10_000).map_or(default.concurrency, |number| number as u32),
        log_bytes: fields.parsed("log_bytes", BYTES, size).unwrap_or(default.log_bytes),
        effects_bytes: fields.parsed("effects_bytes", BYTES, size).unwrap_or(default.effects_bytes),
        effects_count: fields.number("effects_count", 1..=10_000_000).unwrap_or(default.effects_count),
        host_calls: fields.number("host_calls", 1..=1_000_000_000).unwrap_or(default.host_calls),
    };
    fields.finish();
    limits
}

fn retry(mut fields: Fields<'_>) -> Retry {
    const TIME: &str = "a duration such as `500ms`";
    let default = Retry::default();
    let retry = Retry {
        max_attempts: fields.number("max_attempts", 1..=1000).map_or(default.max_attempts, |number| number as u32),
        initial: fields.parsed("initial", TIME, duration).unwrap_or(default.initial),
        factor: fields
            .value("factor", "a number from 1 to 100", |value| match value {
                Value::Integer(number) => Some(*number as f64),
                Value::Float(number) => Some(*number),
                _ => None,
            }
            .filter(|factor| (1.0..=100.0).contains(factor)))
            .unwrap_or(default.factor),
        max_backoff: fields.parsed("max_backoff", TIME, duration).unwrap_or(default.max_backoff),
        jitter: fields
            .value("jitter", "`true` or `false`", |value| match value {
                Value::Boolean(jitter) => Some(*jitter),
                _ => None,
            })
            .unwrap_or(default.jitter),
    };
    fields.finish();
    retry
}

fn variables(notes: &Notes, mut fields: Fields<'_>) -> BTreeMap<String, String> {
    let path = fields.path.clone();
    let text = |(name, node): (String, Node)| match node.value {
        Value::Text(text) => Some((name, text)),
        other => {
            notes.add(&format!("{path}.{name}"), node.line, format!("found {}, expected a string", other.shown()));
            None
        }
    };
    fields.take_all().into_iter().filter_map(text).collect()
}

fn record(mut fields: Fields<'_>) -> RecordSpec {
    let record = RecordSpec {
        bucket: fields.required("bucket", "a bucket", is_bucket),
        prefix: fields.text("prefix").unwrap_or_default(),
        routes: fields.list("routes", |route| Ok(route.to_owned())),
    };
    fields.finish();
    record
}

/// Names that are taken twice, and routes that answer the same requests.
fn refuse_doubles(notes: &Notes, functions: &[(Function, usize)]) {
    let mut names = BTreeSet::new();
    let mut routes: BTreeMap<String, matchit::Router<String>> = BTreeMap::new();
    for (function, line) in functions {
        let path = format!("function.{}", function.name);
        if !function.name.is_empty() && !names.insert(&function.name) {
            notes.add(&path, *line, format!("two functions are named `{}`, expected unique names", function.name));
        }
        for trigger in &function.triggers {
            let Trigger::Http { method, route } = trigger else { continue };
            let method = method.as_deref().unwrap_or("*");
            let taken = routes.entry(method.to_owned()).or_default().insert(route.clone(), function.name.clone());
            if let Err(error) = taken {
                notes.add(&format!("{path}.trigger"), *line, format!("route `{method} {route}`: {error}"));
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

fn is_bucket(bucket: &str) -> bool {
    (3..=63).contains(&bucket.len())
        && bucket.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
        && bucket.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn is_route(route: &str) -> bool {
    let reserved = ["/api/", "/worker/"].iter().any(|prefix| route.starts_with(prefix))
        || ["/health", "/metrics", "/api", "/worker"].contains(&route);
    route.starts_with('/') && !reserved && matchit::Router::new().insert(route, ()).is_ok()
}

fn place(text: &str) -> Result<BucketPrefix, String> {
    let wrong = || {
        Err(format!("found `{text}`, expected `bucket/prefix`, without `..`, a leading `/` or a system bucket (`$`)"))
    };
    let Some((bucket, prefix)) = text.split_once('/') else { return wrong() };
    if !is_bucket(bucket) || prefix.starts_with('/') || prefix.split('/').any(|segment| segment == "..") {
        return wrong();
    }
    Ok(BucketPrefix { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

fn granted_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with(crate::store::SYSTEM_PREFIX) || text.contains('\0') {
        return Err(format!("found `{text}`, expected a name that does not start with `$`"));
    }
    Ok(text.to_owned())
}
