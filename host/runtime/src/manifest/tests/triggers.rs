//! What fires functions.

use super::*;

#[test]
fn triggers_are_read_and_shown() {
    let manifest = Manifest::parse(GOOD, "tidegate.toml").unwrap();
    let shown: Vec<_> = manifest
        .functions
        .iter()
        .flat_map(|f| &f.triggers)
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        shown,
        [
            "object data/raw/*.csv",
            "event DataReady",
            "schedule 0 3 * * * Europe/Berlin",
            "http POST /predict",
            "http * /files/{*rest}",
        ]
    );
    let Trigger::Schedule(schedule) = &manifest.functions[0].triggers[2] else {
        panic!("no schedule")
    };
    assert_eq!(
        (schedule.data.as_str(), schedule.misfire),
        (r#"{"full":true}"#, Misfire::Skip)
    );
}

#[test]
fn a_trigger_is_of_one_kind() {
    let found = mistake(
        "{ event = \"DataReady\" }",
        "{ event = \"DataReady\", http = { route = \"/x\" } }",
    );
    assert!(
        found.contains("trigger[1]: found 2 kinds in one trigger, expected one of `event`"),
        "{found}"
    );
    assert!(mistake("{ event = \"DataReady\" }", "{}").contains("found 0 kinds"));
    assert!(
        mistake("\"DataReady\" }", "\"tidegate.invoke\" }")
            .contains("trigger[1].event: found `tidegate.invoke`")
    );
    assert!(mistake("\"DataReady\" }", "\"\" }").contains("trigger[1].event: found ``"));
    let found = mistake(
        "{ event = \"DataReady\" }",
        "{ event = \"E\" }, { event = \"E\" }",
    );
    assert!(
        found.contains("trigger[2]: found the trigger `event E` twice"),
        "{found}"
    );
}

#[test]
fn schedules_that_can_never_fire_are_refused() {
    assert!(mistake("0 3 * * *", "0 3 31 2 *").contains("`0 3 31 2 *`, a date that never comes"));
    assert!(mistake("0 3 * * *", "0 3 * *").contains("schedule.cron: found `0 3 * *`"));
    assert!(
        mistake("'{\"full\":true}'", "'{full}'").contains("schedule.data: found `{full}`, expected JSON")
    );
    assert!(mistake("\"skip\"", "\"later\"").contains("expected `run_once`, `run_all` or `skip`"));
    assert!(mistake("cron = \"0 3 * * *\", ", "").contains("trigger[2].schedule: `cron` is missing"));
}

#[test]
fn routes_are_checked_and_belong_to_one_function() {
    for wrong in [
        "predict",
        "",
        "/a b",
        "/a?b",
        "/{",
        "/{*rest}/x",
        "//x",
        "/health",
        "/worker/v1/lease",
        "/v2/models",
        "/api",
    ] {
        let found = mistakes(&changed("\"/files/{*rest}\"", &format!("\"{wrong}\"")));
        assert!(
            found[0].contains("trigger[1].http.route: found"),
            "{wrong}: {found:?}"
        );
    }
    let two =
        "trigger = [{ http = { method = \"POST\", route = \"/predict\" } }]\ncomponent = \"by_hand.wasm\"";
    let found = mistake("component = \"by_hand.wasm\"", two);
    assert!(
        found.contains("function.by-hand.trigger: route `POST /predict` is taken by function `rank`"),
        "{found}"
    );
    Manifest::parse(
        &changed("component = \"by_hand.wasm\"", &two.replace("POST", "GET")),
        "t",
    )
    .unwrap();
    assert!(mistake("\"POST\"", "\"BREW\"").contains("http.method: found `BREW`, expected one of GET"));
}
