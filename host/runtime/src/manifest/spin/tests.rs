//! Apps of Spin as manifests: what they become, and every mistake in one go.

use super::super::{Dialect, Manifest, Trigger};

const APP: &str = r#"
spin_manifest_version = 2

[application]
name = "visits"
version = "1.0.0"
authors = ["A. Writer"]

[variables]
greeting = { default = "Ahoy" }
api_host = { default = "api.example.com" }
token = { required = true, secret = true }

[[trigger.http]]
route = "/visits/..."
component = "visits"

[[trigger.http]]
route = "/users/:id"
component = "visits"
executor = { type = "http" }

[component.visits]
source = "target/wasm32-wasip2/release/visits.wasm"
description = "Counts."
allowed_outbound_hosts = ["https://{{ api_host }}", "http://127.0.0.1:8000", "redis://cache:6379"]
key_value_stores = ["default", "more"]
environment = { RUST_LOG = "info" }
variables = { welcome = "{{ greeting }}, {{greeting}}!", password = "{{ token }}" }
[component.visits.build]
command = "cargo build"
[component.visits.tool.tidegate]
limits = { memory = "128MiB" }
"#;

fn mistakes(text: &str) -> String {
    Manifest::parse(text, "spin.toml").unwrap_err().to_string()
}

#[test]
fn an_app_becomes_functions_with_grants() {
    let manifest = Manifest::parse(APP, "spin.toml").unwrap();
    assert_eq!(
        (manifest.app.name.as_str(), manifest.dialect),
        ("visits", Dialect::Spin)
    );
    let [function] = manifest.functions.as_slice() else {
        panic!("{manifest:?}")
    };
    assert_eq!(function.grants.state.read, ["default", "more"]);
    assert_eq!(function.grants.state.write, ["default", "more"]);
    assert_eq!(function.grants.http.hosts, ["api.example.com", "127.0.0.1:8000"]);
    assert_eq!(function.grants.redis.hosts, ["cache:6379"]);
    assert_eq!(function.grants.secrets, ["token"]);
    assert_eq!(function.secrets["password"], "token");
    assert_eq!(function.variables["welcome"], "Ahoy, Ahoy!");
    assert_eq!(function.environment["RUST_LOG"], "info");
    assert_eq!(function.limits.memory, 128 << 20);
}

#[test]
fn routes_are_spelled_as_ours_and_answer_what_they_did() {
    let manifest = Manifest::parse(APP, "spin.toml").unwrap();
    let routes: Vec<_> = manifest.functions[0]
        .triggers
        .iter()
        .filter_map(Trigger::route)
        .collect();
    assert_eq!(routes, ["/visits/", "/visits/{*rest}", "/visits", "/users/{id}"]);
    let root = APP.replace("/visits/...", "/...");
    let manifest = Manifest::parse(&root, "spin.toml").unwrap();
    let routes: Vec<_> = manifest.functions[0]
        .triggers
        .iter()
        .filter_map(Trigger::route)
        .collect();
    assert_eq!(routes, ["/", "/{*rest}", "/users/{id}"]);
}

#[test]
fn everything_that_is_not_supported_is_named_in_one_go() {
    let found = mistakes(
        r#"
spin_manifest_version = 2
[application]
name = "no"
colour = "blue"
[application.trigger.redis]
address = "redis://localhost"
[[trigger.redis]]
channel = "c"
component = "no"
[[trigger.http]]
route = { private = true }
component = "no"
executor = { type = "wagi" }
[[trigger.http]]
route = "/api/..."
component = "nobody"
[component.no]
source = { url = "https://example.com/x.wasm", digest = "sha256:0" }
files = ["assets/*"]
sqlite_databases = ["default"]
ai_models = ["llama2-chat"]
allowed_outbound_hosts = ["https://*.example.com", "mysql://db", "http://self"]
variables = { x = "{{ unknown }}", y = "{{ open" }
"#,
    );
    for named in [
        "application.colour: unknown key",
        "application.trigger.redis: not supported",
        "trigger.redis: not supported: components of `spin.toml` answer HTTP requests only",
        "trigger.http[0].route: found a table, expected a route",
        "trigger.http[0].executor: found `wagi`, expected `http`",
        "trigger.http[1].route: found `/api/...`",
        "a trigger names the component `nobody`",
        "component.no.source: found a table, expected the path of a built `.wasm` file",
        "component.no.files: not supported",
        "component.no.sqlite_databases: not supported",
        "component.no.ai_models: not supported",
        "allowed_outbound_hosts[0]: found `https://*.example.com`",
        "allowed_outbound_hosts[1]: found `mysql://db`",
        "allowed_outbound_hosts[2]: found `http://self`",
        "component.no.variables.x: found the variable `unknown`, the app has none",
        "component.no.variables.y: found `{{ open`, expected `}}`",
    ] {
        assert!(found.contains(named), "missing {named:?} in\n{found}");
    }
}

#[test]
fn a_secret_stands_alone_in_a_variable_and_nowhere_else() {
    let mixed = APP.replace("\"{{ token }}\"", "\"x{{ token }}\"");
    assert!(mistakes(&mixed).contains("found the required variable `token` where its value must be known"));
    let host = APP.replace("https://{{ api_host }}", "{{ token }}");
    assert!(mistakes(&host).contains("allowed_outbound_hosts[0]: found the required variable `token`"));
}

#[test]
fn another_version_and_a_variable_without_a_value_are_refused() {
    let found = mistakes(&APP.replace("version = 2", "version = 1"));
    assert!(
        found.contains("spin_manifest_version: found `1`, expected `2`"),
        "{found}"
    );
    let found = mistakes(&APP.replace("{ default = \"Ahoy\" }", "{}"));
    assert!(
        found.contains("variables.greeting: expected either a `default` or `required = true`"),
        "{found}"
    );
}
