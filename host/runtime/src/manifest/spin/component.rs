//! Components of a Spin app: each becomes a function.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::bounds::limits;
use super::super::grants::{HttpGrants, NameGrants, RedisGrants};
use super::super::parse::texts;
use super::super::rules::{granted_name, is_name};
use super::super::walk::{Fields, Node, Notes, Value};
use super::super::{Dialect, Function, Grants, Limits, Retry};
use super::hosts::{Outbound, outbound};
use super::refuse;
use super::templates::{Meaning, Variables};
use super::triggers::Routes;

/// Keys that this host cannot serve, with the reason.
const UNSUPPORTED: [(&str, &str); 6] = [
    (
        "files",
        "no files are mounted; build them into the component, or read objects",
    ),
    ("exclude_files", "no files are mounted"),
    (
        "sqlite_databases",
        "there are no SQLite databases; use key-value stores",
    ),
    (
        "ai_models",
        "there are no models behind `llm`; a function of `tidegate.toml` has `inference`",
    ),
    (
        "dependencies",
        "components are not composed; compose them when you build",
    ),
    (
        "dependencies_inherit_configuration",
        "components are not composed; compose them when you build",
    ),
];

pub(super) fn components(
    notes: &Notes,
    mut fields: Fields<'_>,
    variables: &Variables,
    mut routes: BTreeMap<String, Routes>,
) -> Vec<(Function, usize)> {
    let path = fields.path.clone();
    let mut functions = Vec::new();
    for (name, node) in fields.take_all() {
        let (line, at) = (node.line, format!("{path}.{name}"));
        if !is_name(&name) {
            let message =
                "expected a name of 1 to 63 lower-case letters, digits, `-` and `_`, starting with a letter";
            notes.add(&at, line, message);
        }
        let routes = routes.remove(&name);
        let mut function = component(notes, Fields::of(notes, &at, node), variables);
        function.triggers = routes.map(|routes| routes.triggers).unwrap_or_default();
        functions.push((Function { name, ..function }, line));
    }
    for (name, routes) in routes {
        let message = format!("a trigger names the component `{name}`, but there is no `[component.{name}]`");
        notes.add("trigger.http", routes.line, message);
    }
    if functions.is_empty() {
        notes.add(
            &path,
            fields.line,
            "missing, expected at least one `[component.NAME]`",
        );
    }
    functions
}

fn component(notes: &Notes, mut fields: Fields<'_>, variables: &Variables) -> Function {
    for (key, why) in UNSUPPORTED {
        refuse(notes, &mut fields, key, why);
    }
    for of_the_build in ["build", "profile", "targets"] {
        fields.take(of_the_build);
    }
    let stores = fields.list("key_value_stores", granted_name);
    let (http, redis) = allowed_hosts(&mut fields, variables);
    let values = values(notes, fields.table("variables"), variables);
    let mut grants = Grants {
        state: NameGrants {
            read: stores.clone(),
            write: stores,
        },
        http: HttpGrants { hosts: http },
        redis: RedisGrants { hosts: redis },
        ..Grants::default()
    };
    let (mut known, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in values {
        match value {
            Meaning::Text(text) => drop(known.insert(name, text)),
            Meaning::Secret(secret) => {
                grants.secrets.push(secret.clone());
                secrets.insert(name, secret);
            }
        }
    }
    let function = Function {
        name: String::new(),
        version: 0,
        tenant: String::new(),
        dialect: Dialect::Spin,
        description: fields.text("description"),
        component: source(&mut fields),
        triggers: Vec::new(),
        grants,
        limits: own_limits(fields.table("tool")),
        key: None,
        rate: None,
        retry: Retry::default(),
        reuse: None,
        batch: None,
        environment: texts(notes, fields.table("environment")),
        variables: known,
        secrets,
        record: None,
    };
    fields.finish();
    function
}

/// The hosts that are spoken to over HTTP, and the servers of Redis.
fn allowed_hosts(fields: &mut Fields<'_>, variables: &Variables) -> (Vec<String>, Vec<String>) {
    let (mut http, mut redis) = (Vec::new(), Vec::new());
    for allowed in fields.list("allowed_outbound_hosts", |host| {
        outbound(&variables.expand_text(host)?)
    }) {
        match allowed {
            Outbound::Http(host) => http.push(host),
            Outbound::Redis(host) => redis.push(host),
        }
    }
    (http, redis)
}

fn source(fields: &mut Fields<'_>) -> PathBuf {
    let expected = "the path of a built `.wasm` file; components of URLs and registries are not fetched";
    let source = fields.required("source", expected, |path| path.ends_with(".wasm"));
    source.map(PathBuf::from).unwrap_or_default()
}

/// What only this host knows: `[component.NAME.tool.tidegate]`.
fn own_limits(mut tools: Fields<'_>) -> Limits {
    let mut own = tools.table("tidegate");
    let limits = limits(own.table("limits"));
    own.finish();
    tools.take_all();
    limits
}

fn values(notes: &Notes, mut fields: Fields<'_>, variables: &Variables) -> Vec<(String, Meaning)> {
    let path = fields.path.clone();
    let value = |(name, node): (String, Node)| {
        let read = match &node.value {
            Value::Text(text) => variables.expand(text),
            other => Err(format!("found {}, expected a string", other.shown())),
        };
        let noted = read.map_err(|message| notes.add(&format!("{path}.{name}"), node.line, message));
        Some((name, noted.ok()?))
    };
    fields.take_all().into_iter().filter_map(value).collect()
}
