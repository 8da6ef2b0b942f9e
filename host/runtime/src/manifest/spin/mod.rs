//! `spin.toml`, manifest version 2: an app written for Spin becomes an ordinary manifest.
//!
//! What this host cannot do for a component is refused by name, everything in one go: an app that deploys is whole.

mod component;
mod hosts;
mod templates;
#[cfg(test)]
mod tests;
mod triggers;

use super::rules::{contradictions, is_name};
use super::walk::{Fields, Node, Notes, Value};
use super::{App, Dialect, Function, Manifest, Mistake};
use component::components;
use templates::Variables;
use triggers::triggers;

/// The key that only a manifest of Spin has.
const VERSION: &str = "spin_manifest_version";

/// Whether a parsed file is a manifest of Spin.
pub(super) fn is_spin(root: &Node) -> bool {
    matches!(&root.value, Value::Table(entries) if entries.contains_key(VERSION))
}

/// What could be read, with what is wrong with it.
pub(super) fn manifest(text: &str, root: Node) -> (Manifest, Vec<Mistake>) {
    let notes = Notes::default();
    let mut fields = Fields::of(&notes, "", root);
    fields.value(VERSION, "`2`", |version| match version {
        Value::Integer(2) => Some(()),
        _ => None,
    });
    let name = application(&notes, fields.table("application"));
    let variables = Variables::read(&notes, fields.table("variables"));
    let routes = triggers(&notes, fields.table("trigger"));
    let functions = components(&notes, fields.table("component"), &variables, routes);
    fields.finish();
    contradictions(&notes, "component", &functions);
    let functions = functions.into_iter().map(|(function, _)| Function {
        tenant: name.clone(),
        ..function
    });
    let manifest = Manifest {
        functions: functions.collect(),
        app: App {
            tenant: name.clone(),
            name,
        },
        text: text.to_owned(),
        dialect: Dialect::Spin,
    };
    (manifest, notes.into_list())
}

fn application(notes: &Notes, mut fields: Fields<'_>) -> String {
    let expected = "a name of lower-case letters, digits, `-` and `_`, starting with a letter";
    let name = fields.required("name", expected, is_name).unwrap_or_default();
    for told in ["version", "description", "authors"] {
        fields.take(told);
    }
    let mut settings = fields.table("trigger");
    let mut http = settings.table("http");
    http.parsed("base", "`/`: routes are given whole", |base| {
        (base == "/").then_some(())
    });
    http.finish();
    refuse(notes, &mut settings, "redis", triggers::ONLY_HTTP);
    settings.finish();
    fields.finish();
    name
}

/// Notes why a key is not supported, where it says anything.
fn refuse(notes: &Notes, fields: &mut Fields<'_>, key: &'static str, why: &str) {
    let path = fields.at(key);
    let Some(node) = fields.take(key) else { return };
    let says_nothing = match &node.value {
        Value::Array(items) => items.is_empty(),
        Value::Table(entries) => entries.is_empty(),
        Value::Boolean(on) => !on,
        _ => false,
    };
    if !says_nothing {
        notes.add(&path, node.line, format!("not supported: {why}"));
    }
}
