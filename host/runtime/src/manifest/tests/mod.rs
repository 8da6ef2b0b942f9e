mod apart;
mod flow;
mod properties;
mod reference;
mod triggers;

use super::*;

const GOOD: &str = r#"
[app]
name = "demo"

[[function]]
name = "ingest"
component = "ingest.wasm"
description = "Takes files in."
trigger = [
    { object = { bucket = "data", prefix = "raw/", suffix = ".csv" } },
    { event = "DataReady" },
    { schedule = { cron = "0 3 * * *", timezone = "Europe/Berlin", data = '{"full":true}', misfire = "skip" } },
]
grants.objects.read = ["data/raw/"]
grants.secrets = ["warehouse"]
limits = { memory = "128MiB", wall_time = "5m" }
retry = { max_attempts = 3, initial = "1s", factor = 1.5, max_backoff = "1m", jitter = false }
[function.variables]
"column.user_id" = "userId"

[[function]]
name = "rank"
component = "rank.wasm"
trigger = [{ http = { method = "POST", route = "/predict" } }, { http = { route = "/files/{*rest}" } }]
record = { bucket = "data", prefix = "predictions/", routes = ["/predict"] }

[[function]]
name = "by-hand"
component = "by_hand.wasm"
"#;

/// The manifest `GOOD` with one text in place of another.
fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the manifest");
    GOOD.replacen(from, to, 1)
}

fn mistakes(text: &str) -> Vec<String> {
    let mistakes = Manifest::parse(text, "tidegate.toml").map(|_| ()).unwrap_err();
    mistakes.to_string().lines().map(str::to_owned).collect()
}

/// The one mistake that a change makes, as it is shown.
fn mistake(from: &str, to: &str) -> String {
    let mut found = mistakes(&changed(from, to));
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

#[test]
fn a_manifest_is_read_with_its_defaults() {
    let manifest = Manifest::parse(GOOD, "tidegate.toml").unwrap();
    let [ingest, rank, by_hand] = manifest.functions.as_slice() else {
        panic!("{manifest:?}")
    };
    assert_eq!(
        (manifest.app.name.as_str(), manifest.text.as_str()),
        ("demo", GOOD)
    );
    assert_eq!((ingest.limits.memory, ingest.limits.concurrency), (128 << 20, 16));
    assert_eq!(ingest.variables["column.user_id"], "userId");
    assert!(ingest.grants.allows_read("ingest", "data", "raw/x.csv").is_ok());
    assert!(ingest.grants.allows_secret("ingest", "warehouse").is_ok());
    assert_eq!(
        (
            ingest.retry.max_attempts,
            ingest.retry.factor,
            ingest.retry.jitter
        ),
        (3, 1.5, false)
    );
    let record = RecordSpec {
        bucket: "data".into(),
        prefix: "predictions/".into(),
        routes: vec!["/predict".into()],
    };
    assert_eq!(rank.record, Some(record));
    assert_eq!(
        (&by_hand.limits, &by_hand.retry),
        (&Limits::default(), &Retry::default())
    );
    assert!(by_hand.triggers.is_empty() && by_hand.grants == Grants::default());
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

[[function]]
component = 7
"#;
    let found = mistakes(text);
    let expected = [
        "tidegate.toml:3: app.name: found `Demo`, expected 1 to 63 lower-case letters",
        "tidegate.toml:5: function.a: `component` is missing, expected the path of a `.wasm` file",
        "tidegate.toml:7: function.a.componet: unknown key, allowed are",
        "tidegate.toml:8: function.a.trigger[0].schedule.cron: found `99 * * * *`, expected a cron expression",
        "tidegate.toml:8: function.a.trigger[0].schedule.timezone: found `Mars/Base`, expected an IANA time zone",
        "tidegate.toml:9: function.a.grants.objects.read[0]: found `/etc`, expected `bucket/prefix`",
        "tidegate.toml:9: function.a.grants.objects.read[1]: found `data/../x`",
        "tidegate.toml:10: function.a.grants.state.write[0]: found `$done`, expected a name",
        "tidegate.toml:11: function.a.limits.memory: found `12 parsecs`, expected a size such as `64MiB`",
        "tidegate.toml:13: function.b.trigger: route `* /x` is taken by function `b`",
        "tidegate.toml:16: function.b.trigger[2].http.route: found `/api/v1/x`, expected a route such as",
        "tidegate.toml:18: function[2]: `name` is missing",
        "tidegate.toml:19: function[2].component: found `7`, expected the path",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            found.starts_with(expected),
            "{expected:?} is not how this starts: {found:?}"
        );
    }
}

#[test]
fn an_unknown_key_is_answered_with_the_one_that_was_meant() {
    for (from, to, meant) in [
        ("[app]", "[ap]", "app"),
        ("description", "descripton", "description"),
        ("memory", "memmory", "memory"),
        ("wall_time", "walltime", "wall_time"),
        ("max_attempts", "max_atempts", "max_attempts"),
        ("timezone", "time_zone", "timezone"),
        ("grants.objects", "grants.object", "objects"),
        ("method", "metod", "method"),
    ] {
        let found = mistakes(&changed(from, to)).join("\n");
        assert!(found.contains(&format!("did you mean `{meant}`?")), "{found}");
    }
    let found = mistake("description =", "colour =");
    assert!(
        found.contains("allowed are `name`") && !found.contains("did you mean"),
        "{found}"
    );
}

#[test]
fn a_value_of_another_type_says_what_was_found() {
    for (from, to, expected) in [
        (
            "name = \"demo\"",
            "name = 5",
            "app.name: found `5`, expected 1 to 63",
        ),
        (
            "\"Takes files in.\"",
            "true",
            "function.ingest.description: found `true`, expected a string",
        ),
        (
            "[\"data/raw/\"]",
            "\"data/raw/\"",
            "objects.read: found `data/raw/`, expected an array of strings",
        ),
        (
            "[\"data/raw/\"]",
            "[7]",
            "objects.read[0]: found `7`, expected a string",
        ),
        (
            "\"128MiB\"",
            "134217728",
            "limits.memory: found `134217728`, expected a size such as `64MiB`",
        ),
        (
            "wall_time = \"5m\"",
            "backlog = 0",
            "limits.backlog: found `0`, expected a whole number from 1 to 100000000",
        ),
        (
            "max_attempts = 3",
            "max_attempts = 2.5",
            "retry.max_attempts: found `2.5`, expected a whole number from 1 to 1000",
        ),
        (
            "jitter = false",
            "jitter = \"no\"",
            "retry.jitter: found `no`, expected `true` or `false`",
        ),
        (
            "jitter = false",
            "max_age = \"1000h\"",
            "retry.max_age: found `1000h`, expected a duration such as `6h`, from `1s` to `720h`",
        ),
        (
            "jitter = false",
            "on_exhausted = \"panic\"",
            "retry.on_exhausted: found `panic`, expected `dead` or `pause`",
        ),
        (
            "= \"userId\"",
            "= 1979-05-27",
            "variables.column.user_id: found `1979-05-27`, expected a string",
        ),
        (
            "\"column.user_id\"",
            "column.user_id",
            "variables.column: found a table, expected a string; a name with a dot",
        ),
        (
            "{ event = \"DataReady\" }",
            "\"DataReady\"",
            "trigger[1]: found `DataReady`, expected a table",
        ),
    ] {
        let found = mistake(from, to);
        assert!(found.contains(expected), "{expected:?} is not in {found:?}");
    }
}

#[test]
fn numbers_sizes_and_times_have_bounds() {
    for (from, to, expected) in [
        ("\"128MiB\"", "\"512KiB\"", "from `1MiB` to `4GiB`"),
        ("\"128MiB\"", "\"5GiB\"", "from `1MiB` to `4GiB`"),
        ("\"128MiB\"", "\"-1MiB\"", "found `-1MiB`"),
        ("\"5m\"", "\"2h\"", "from `1ms` to `1h`"),
        ("\"5m\"", "\"0s\"", "from `1ms` to `1h`"),
        ("max_attempts = 3", "max_attempts = 0", "from 1 to 1000"),
        (
            "max_attempts = 3",
            "max_attempts = 99999999999999999999",
            "from 1 to 1000",
        ),
        ("factor = 1.5", "factor = nan", "from 1 to 100"),
        ("factor = 1.5", "factor = 0.5", "from 1 to 100"),
        (
            "\"1m\"",
            "\"10ms\"",
            "found `initial` of 1s and `max_backoff` of 10ms",
        ),
    ] {
        let found = mistake(from, to);
        assert!(found.contains(expected), "{expected:?} is not in {found:?}");
    }
}

#[test]
fn grants_of_what_is_the_platforms_are_refused() {
    let grant = |line: &str| mistake("grants.secrets = [\"warehouse\"]", line);
    for (line, expected) in [
        (
            "grants.objects.write = [\"$components/\"]",
            "expected `bucket/prefix`",
        ),
        (
            "grants.objects.write = [\"tidegate-jobs/\"]",
            "expected `bucket/prefix`",
        ),
        (
            "grants.state.read = [\"$done\"]",
            "expected a name that does not start with `$`",
        ),
        (
            "grants.events.emit = [\"tidegate.invoke\"]",
            "expected a type outside `tidegate.`",
        ),
        (
            "grants.inference.infer = [\"ranker@7\"]",
            "expected a model's name without `@`",
        ),
        (
            "grants.http.hosts = [\"https://a.b/c\"]",
            "expected `host` or `host:port`",
        ),
        (
            "grants.http.hosts = [\"*.example.com\"]",
            "expected `host` or `host:port`",
        ),
        (
            "grants.http.hosts = [\"a.b\", \"a.b\"]",
            "hosts[1]: found `a.b` twice",
        ),
    ] {
        let found = grant(line);
        assert!(found.contains(expected), "{expected:?} is not in {found:?}");
    }
}

#[test]
fn a_name_that_no_store_could_hold_is_refused() {
    let grant = |name: &str| format!("grants.state.read = [\"{name}\"]\ngrants.secrets");
    let found = mistake("grants.secrets", &grant(&"t".repeat(256)));
    assert!(
        found.contains("grants.state.read[0]: found `ttt")
            && found.contains("of 256 bytes, expected a name of up to 255"),
        "{found}"
    );
    Manifest::parse(&changed("grants.secrets", &grant(&"t".repeat(255))), "t").unwrap();
}

#[test]
fn places_of_objects_are_a_bucket_and_a_prefix() {
    for wrong in [
        "data",
        "",
        "/raw",
        "data//x",
        "data/../x",
        "data/a/..",
        "da/x",
        "Data/x",
        "data./x",
        "data/a\\\\b",
    ] {
        let found = mistake("data/raw/\"]", &format!("{wrong}\"]"));
        assert!(found.contains("expected `bucket/prefix`"), "{wrong}: {found}");
    }
    for right in ["data/", "data/raw", "data/raw/x.csv", "my.bucket-1/a/b/"] {
        Manifest::parse(&changed("data/raw/\"]", &format!("{right}\"]")), "t").unwrap();
    }
}

#[test]
fn a_record_names_routes_of_its_function() {
    let found = mistake("routes = [\"/predict\"]", "routes = [\"/predct\"]");
    assert!(
        found.contains("record.routes[0]: found `/predct`, expected a route of the function: `/files/"),
        "{found}"
    );
    let found = mistake("by_hand.wasm\"", "by_hand.wasm\"\nrecord = { bucket = \"data\" }");
    assert!(
        found.contains("function.by-hand.record: found a record, but the function has no http trigger"),
        "{found}"
    );
}

#[test]
fn two_functions_cannot_have_one_name() {
    let found = mistake("\"by-hand\"", "\"rank\"");
    assert!(
        found.contains("function.rank: two functions are named `rank`"),
        "{found}"
    );
}

#[test]
fn errors_of_syntax_name_their_lines() {
    let found = mistakes("[app]\nname = \n[[function]]\nname = 'a'\nname = 'b'\nx = [1\n");
    assert!(found[0].starts_with("tidegate.toml:2: not TOML"), "{found:?}");
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("tidegate.toml:5: not TOML")),
        "{found:?}"
    );
}

#[test]
fn an_empty_manifest_says_what_is_missing() {
    let found = mistakes("");
    assert!(
        found[0].contains("app: `name` is missing") && found[1].contains("function: missing"),
        "{found:?}"
    );
    assert!(
        mistakes("app = 1\nfunction = []")
            .join("\n")
            .contains("app: found `1`, expected a table")
    );
}

#[test]
fn a_manifest_that_cannot_be_read_says_so() {
    let mistakes = Manifest::read(Path::new("/nonexistent/tidegate.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        mistakes.starts_with("/nonexistent/tidegate.toml: cannot be read: "),
        "{mistakes}"
    );
}

#[test]
fn the_manifest_of_the_app_that_comes_along_is_good() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions/feed-ranking/tidegate.toml");
    if file.exists() {
        let (manifest, mistakes) = Manifest::read(&file).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(mistakes, []);
        assert_eq!(manifest.app.name, "feed-ranking");
    }
}
