use super::*;

const GOOD: &str = r#"
[app]
name = "demo"

[[function]]
name = "ingest"
component = "ingest.wasm"
trigger = [{ object = { bucket = "data", prefix = "raw/" } }, { schedule = { cron = "0 3 * * *", timezone = "Europe/Berlin" } }]
grants.objects.read = ["data/raw/"]
limits = { memory = "128MiB", wall_time = "5m" }
[function.variables]
"column.user_id" = "userId"

[[function]]
name = "rank"
component = "rank.wasm"
trigger = [{ http = { method = "POST", route = "/predict" } }]
"#;

#[test]
fn a_manifest_is_read_with_its_defaults() {
    let manifest = Manifest::parse(GOOD, "tidegate.toml").unwrap();
    let ingest = &manifest.functions[0];
    assert_eq!((ingest.limits.memory, ingest.limits.concurrency), (128 << 20, 16));
    assert_eq!(ingest.variables["column.user_id"], "userId");
    assert!(ingest.grants.allows_read("ingest", "data", "raw/x.csv").is_ok());
    assert_eq!(manifest.functions[1].triggers[0].to_string(), "http POST /predict");
}

#[test]
fn every_mistake_is_reported_in_one_go_with_its_line() {
    let text = r#"
[app]
name = "Demo"

[[function]]
name = "a"
componet = "a.wasm"
trigger = [{ schedule = { cron = "99 * * * *", timezone = "Mars/Base" } }]
grants.objects.read = ["/etc", "data/../x"]
grants.state.write = ["$done"]
limits = { memory = "12 parsecs" }

[[function]]
name = "b"
component = "b.wasm"
trigger = [{ http = { route = "/x" } }, { http = { route = "/x" } }, { http = { route = "/api/v1/x" } }]
"#;
    let mistakes = Manifest::parse(text, "tidegate.toml").unwrap_err();
    let shown = mistakes.to_string();
    for expected in [
        "tidegate.toml:3: app.name: found `Demo`",
        "tidegate.toml:5: function.a: `component` is missing",
        "tidegate.toml:7: function.a.componet: unknown key",
        "did you mean `component`?",
        "function.a.trigger.schedule.cron: found `99 * * * *`",
        "function.a.trigger.schedule.timezone: found `Mars/Base`",
        "tidegate.toml:9: function.a.grants.objects.read: found `/etc`",
        "found `data/../x`",
        "found `$done`",
        "tidegate.toml:11: function.a.limits.memory: found `12 parsecs`",
        "route `* /x`",
        "found `/api/v1/x`",
    ] {
        assert!(shown.contains(expected), "missing {expected:?} in:\n{shown}");
    }
}

#[test]
fn a_syntax_error_names_its_line() {
    let mistakes = Manifest::parse("[app]\nname = ", "tidegate.toml").unwrap_err();
    assert!(mistakes.to_string().starts_with("tidegate.toml:2: not TOML"), "{mistakes}");
}

#[test]
fn an_empty_manifest_says_what_is_missing() {
    let shown = Manifest::parse("", "tidegate.toml").unwrap_err().to_string();
    assert!(shown.contains("app: `name` is missing") && shown.contains("function: missing"), "{shown}");
}
