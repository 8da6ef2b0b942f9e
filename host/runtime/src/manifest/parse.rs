//! From TOML to the model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::bounds::{batch, key, limits, rate, retry, reuse};
use super::grants::{
    EventGrants, HttpGrants, InferenceGrants, JobGrants, NameGrants, ObjectGrants, RedisGrants,
};
use super::rules::{
    contradictions, emitted, granted_name, host, is_bucket, is_name, key_start, model, place,
};
use super::triggers::triggers;
use super::walk::{Fields, Node, Notes, Value, parse};
use super::{App, Dialect, Function, Grants, Manifest, Mistake, RecordSpec, spin};

const NAME: &str = "1 to 63 lower-case letters, digits, `-` and `_`, starting with a letter";

/// What could be read, with what is wrong with it; an error where the text is no TOML.
pub(super) fn manifest(text: &str) -> Result<(Manifest, Vec<Mistake>), Vec<Mistake>> {
    let root = parse(text)?;
    if spin::is_spin(&root) {
        return Ok(spin::manifest(text, root));
    }
    let notes = Notes::default();
    let mut fields = Fields::of(&notes, "", root);
    let mut app = fields.table("app");
    let name = app.required("name", NAME, is_name).unwrap_or_default();
    let tenant = app.parsed("tenant", NAME, |name| is_name(name).then(|| name.to_owned()));
    let tenant = tenant.unwrap_or_else(|| name.clone());
    app.finish();
    let functions = functions(&notes, fields.take("function"), fields.line);
    fields.finish();
    contradictions(&notes, "function", &functions);
    let functions = functions.into_iter().map(|(function, _)| Function {
        tenant: tenant.clone(),
        ..function
    });
    let manifest = Manifest {
        functions: functions.collect(),
        app: App { name, tenant },
        text: text.to_owned(),
        dialect: Dialect::Tidegate,
    };
    Ok((manifest, notes.into_list()))
}

fn functions(notes: &Notes, node: Option<Node>, line: usize) -> Vec<(Function, usize)> {
    match node {
        Some(Node {
            value: Value::Array(nodes),
            ..
        }) if !nodes.is_empty() => nodes
            .into_iter()
            .enumerate()
            .map(|(index, node)| function(notes, index, node))
            .collect(),
        Some(node) => {
            notes.add(
                "function",
                node.line,
                format!(
                    "found {}, expected one or more `[[function]]` tables",
                    node.value.shown()
                ),
            );
            Vec::new()
        }
        None => {
            notes.add("function", line, "missing, expected at least one `[[function]]`");
            Vec::new()
        }
    }
}

/// The dotted path of the function `name`, the `index`-th; of one without a valid name by its place.
pub(super) fn path_of(name: &str, index: usize) -> String {
    if name.is_empty() {
        format!("function[{index}]")
    } else {
        format!("function.{name}")
    }
}

fn function(notes: &Notes, index: usize, node: Node) -> (Function, usize) {
    let line = node.line;
    let name = match &node.value {
        Value::Table(entries) => match entries.get("name").map(|name| &name.value) {
            Some(Value::Text(name)) if is_name(name) => name,
            _ => "",
        },
        _ => "",
    };
    let path = path_of(name, index);
    let mut fields = Fields::of(notes, &path, node);
    let function = Function {
        name: fields.required("name", NAME, is_name).unwrap_or_default(),
        version: 0,
        tenant: String::new(),
        dialect: Dialect::Tidegate,
        component: component(&mut fields),
        description: fields.text("description"),
        triggers: triggers(notes, &fields.at("trigger"), fields.take("trigger")),
        grants: grants(fields.table("grants")),
        limits: limits(fields.table("limits")),
        key: fields
            .take("key")
            .map(|node| key(Fields::of(notes, &format!("{path}.key"), node))),
        rate: fields
            .take("rate")
            .and_then(|node| rate(Fields::of(notes, &format!("{path}.rate"), node))),
        retry: retry(fields.table("retry")),
        reuse: fields
            .take("reuse")
            .map(|node| reuse(Fields::of(notes, &format!("{path}.reuse"), node))),
        batch: fields
            .take("batch")
            .map(|node| batch(Fields::of(notes, &format!("{path}.batch"), node))),
        environment: texts(notes, fields.table("environment")),
        variables: texts(notes, fields.table("variables")),
        secrets: BTreeMap::new(),
        record: fields
            .take("record")
            .map(|node| record(Fields::of(notes, &format!("{path}.record"), node))),
    };
    fields.finish();
    (function, line)
}

fn component(fields: &mut Fields<'_>) -> PathBuf {
    let expected = "the path of a `.wasm` file";
    fields
        .required("component", expected, |path| path.ends_with(".wasm"))
        .map(PathBuf::from)
        .unwrap_or_default()
}

fn grants(mut fields: Fields<'_>) -> Grants {
    let mut objects = fields.table("objects");
    let object_grants = ObjectGrants {
        read: objects.list("read", place),
        write: objects.list("write", place),
    };
    objects.finish();
    let named = |mut fields: Fields<'_>| {
        let grants = NameGrants {
            read: fields.list("read", granted_name),
            write: fields.list("write", granted_name),
        };
        fields.finish();
        grants
    };
    let one = |mut fields: Fields<'_>, key, read: fn(&str) -> Result<String, String>| {
        let names = fields.list(key, read);
        fields.finish();
        names
    };
    let grants = Grants {
        objects: object_grants,
        state: named(fields.table("state")),
        events: EventGrants {
            emit: one(fields.table("events"), "emit", emitted),
        },
        jobs: JobGrants {
            submit: one(fields.table("jobs"), "submit", granted_name),
        },
        inference: InferenceGrants {
            infer: one(fields.table("inference"), "infer", model),
        },
        features: named(fields.table("features")),
        secrets: fields.list("secrets", granted_name),
        http: HttpGrants {
            hosts: one(fields.table("http"), "hosts", host),
        },
        redis: RedisGrants {
            hosts: one(fields.table("redis"), "hosts", host),
        },
    };
    fields.finish();
    grants
}

/// A table of free names, each with a text.
pub(super) fn texts(notes: &Notes, mut fields: Fields<'_>) -> BTreeMap<String, String> {
    let path = fields.path.clone();
    let text = |(name, node): (String, Node)| {
        let hint = match node.value {
            Value::Text(text) => return Some((name, text)),
            Value::Table(_) => "; a name with a dot is written in quotes",
            _ => "",
        };
        let message = format!("found {}, expected a string{hint}", node.value.shown());
        notes.add(&format!("{path}.{name}"), node.line, message);
        None
    };
    fields.take_all().into_iter().filter_map(text).collect()
}

fn record(mut fields: Fields<'_>) -> RecordSpec {
    let record = RecordSpec {
        bucket: fields
            .required("bucket", "the name of a bucket", is_bucket)
            .unwrap_or_default(),
        prefix: key_start(&mut fields, "prefix"),
        routes: fields.list("routes", |route| Ok(route.to_owned())),
    };
    fields.finish();
    record
}
