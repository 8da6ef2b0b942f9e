//! Triggers of Spin: HTTP routes, in Spin's spelling.

use std::collections::BTreeMap;

use super::super::Trigger;
use super::super::triggers::is_route;
use super::super::walk::{Fields, Node, Notes, Value, quoted};

/// Why other triggers are refused.
pub(super) const ONLY_HTTP: &str =
    "components of `spin.toml` answer HTTP requests only; a function of `tidegate.toml` handles events";

/// The routes of one component.
pub(super) struct Routes {
    pub(super) line: usize,
    pub(super) triggers: Vec<Trigger>,
}

/// The routes, by the name of their component.
pub(super) fn triggers(notes: &Notes, mut fields: Fields<'_>) -> BTreeMap<String, Routes> {
    let mut routes = BTreeMap::<String, Routes>::new();
    let path = fields.at("http");
    let http = fields.take("http");
    for (index, node) in list(notes, &path, http).into_iter().enumerate() {
        let line = node.line;
        let one = route(notes, Fields::of(notes, &format!("{path}[{index}]"), node));
        if let Some((component, triggers)) = one {
            let empty = || Routes {
                line,
                triggers: Vec::new(),
            };
            routes
                .entry(component)
                .or_insert_with(empty)
                .triggers
                .extend(triggers);
        }
    }
    for (kind, node) in fields.take_all() {
        notes.add(
            &fields.at(&kind),
            node.line,
            format!("not supported: {ONLY_HTTP}"),
        );
    }
    routes
}

fn list(notes: &Notes, path: &str, node: Option<Node>) -> Vec<Node> {
    match node {
        None => Vec::new(),
        Some(Node {
            value: Value::Array(nodes),
            ..
        }) => nodes,
        Some(node) => {
            let found = node.value.shown();
            notes.add(
                path,
                node.line,
                format!("found {found}, expected `[[trigger.http]]` tables"),
            );
            Vec::new()
        }
    }
}

fn route(notes: &Notes, mut fields: Fields<'_>) -> Option<(String, Vec<Trigger>)> {
    fields.take("id");
    let component = fields.required("component", "the name of a `[component]`", |_| true);
    let (path, line) = (fields.at("executor"), fields.line);
    let mut executor = fields.table("executor");
    let kind = executor.text("type");
    executor.take_all();
    if let Some(other) = kind.filter(|kind| kind != "http" && kind != "spin") {
        notes.add(
            &path,
            line,
            format!(
                "found {}, expected `http`: components answer as `wasi:http`",
                quoted(&other)
            ),
        );
    }
    let expected = "a route such as `/hello`, `/hello/...` or `/users/:id`, outside `/api/`, `/v2/`, `/worker/`, `/health` \
                    and `/metrics`; private routes are not supported";
    let route = fields.required("route", expected, |route| ours(route).is_some());
    fields.finish();
    Some((component?, route.as_deref().and_then(ours).unwrap_or_default()))
}

/// A route in Spin's spelling as routes of ours: `/x/...` also answers `/x` and `/x/`.
fn ours(route: &str) -> Option<Vec<Trigger>> {
    let (plain, below) = match route.strip_suffix("/...") {
        Some(plain) => (plain, true),
        None => (route, false),
    };
    let segment = |segment: &str| match segment.strip_prefix(':') {
        Some(name) => format!("{{{name}}}"),
        None => segment.to_owned(),
    };
    let plain: Vec<String> = plain.split('/').map(segment).collect();
    let plain = plain.join("/");
    let routes = match (below, plain.as_str()) {
        (false, _) => vec![plain],
        (true, "") => vec!["/".to_owned(), "/{*rest}".to_owned()],
        (true, _) => vec![format!("{plain}/"), format!("{plain}/{{*rest}}"), plain],
    };
    let valid = routes.iter().all(|route| is_route(route));
    valid.then(|| {
        routes
            .into_iter()
            .map(|route| Trigger::Http { method: None, route })
            .collect()
    })
}
