//! What a deployment refuses.

use std::path::PathBuf;

use tidegate_runtime::Traffic;
use tidegate_runtime::platform::KEPT;
use tidegate_runtime::store::{Condition, Publication, Unit};

use crate::bench::{Bench, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_refuses_every_mismatch_at_once() {
    let bench = Bench::odd().await;
    let file = bench.folder.path().join("bad.toml");
    let text = r#"
[app]
name = "bad"
[[function]]
name = "ungranted"
component = "tidegate_guests.wasm"
trigger = [{ http = { route = "/x" } }]
[[function]]
name = "missing"
component = "nowhere.wasm"
"#;
    std::fs::write(&file, text).unwrap();
    let refused = bench
        .platform
        .deploy(&file, Traffic::All)
        .await
        .unwrap_err()
        .to_string();
    for expected in [
        "function.ungranted.component: component `tidegate_guests.wasm` exports `handle`, for events, but the trigger is `http * /x`",
        "imports `tidegate:function/state@0.1.0`, but the manifest has no grant `state.read` or `state.write`",
        "function.missing.component: component `nowhere.wasm` not found",
    ] {
        assert!(refused.contains(expected), "missing {expected:?} in\n{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_does_not_take_a_route_of_another_app() {
    let bench = Bench::odd().await;
    let app = |name: &str, http: &str| {
        let text = format!(
            "[app]\nname = \"{name}\"\n[[function]]\nname = \"{name}-http\"\ncomponent = \"hello_http.wasm\"\n\
             trigger = [{{ http = {http} }}]\ngrants.state.read = [\"hello\"]\n"
        );
        let file = bench.folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, text).unwrap();
        file
    };
    let deploy = async |file: PathBuf| bench.platform.deploy(&file, Traffic::All).await.map(drop);
    let first = app("first", r#"{ method = "GET", route = "/hello/{name}" }"#);
    deploy(first.clone()).await.unwrap();
    let refused = deploy(app("second", r#"{ route = "/hello/{who}" }"#)).await;
    let reason = refused.unwrap_err().to_string();
    assert_eq!(
        reason,
        "`http * /hello/{who}` of function `second-http` answers the requests of `http GET /hello/{name}`, which \
         belongs to function `first-http` of the app `first`"
    );
    deploy(app("second", r#"{ method = "POST", route = "/hello/{who}" }"#))
        .await
        .unwrap();
    deploy(first).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn machine_code_goes_with_the_last_version_that_has_it() {
    let manifest = |component: &str, more: &str| {
        format!(
            "[app]\nname = \"page\"\n[[function]]\nname = \"page\"\ncomponent = \"{component}\"\n\
             trigger = [{{ http = {{ route = \"/\" }} }}]\n{more}\n"
        )
    };
    let first = manifest("tidegate_guests_web.wasm", "grants.events.emit = [\"Do\"]");
    let bench = Bench::with(&first).await;
    let code = || {
        let files = std::fs::read_dir(bench.folder.path().join("data/cache")).unwrap();
        files.map(|file| file.unwrap().file_name()).collect::<Vec<_>>()
    };
    let of_first = code().remove(0);
    for number in 0..KEPT {
        let more = format!("variables = {{ number = \"{number}\" }}");
        let next = manifest("tidegate_plain_http.wasm", &more);
        assert!(code().contains(&of_first), "version 1 is kept still");
        // A version drains before it can go, a moment after it was replaced.
        bench.deploy(&next).await.unwrap();
    }
    until("the end of version 1", async || {
        let again = manifest("tidegate_plain_http.wasm", "variables = { number = \"last\" }");
        bench.deploy(&again).await.unwrap();
        (!code().contains(&of_first)).then_some(())
    })
    .await;
    assert_eq!(code().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_function_that_is_gone_the_latest_version_stays() {
    let function = |name: &str, number: u32| {
        format!(
            "[[function]]\nname = \"{name}\"\ncomponent = \"tidegate_plain_http.wasm\"\n\
             trigger = [{{ http = {{ route = \"/{name}\" }} }}]\nvariables = {{ number = \"{number}\" }}\n"
        )
    };
    let app = |gone: Option<u32>, number: u32| {
        let gone = gone.map_or(String::new(), |number| function("gone", number));
        format!("[app]\nname = \"pages\"\n{}{gone}", function("stays", number))
    };
    let bench = Bench::with(&app(Some(1), 1)).await;
    for number in 2..=3 {
        bench.deploy(&app(Some(number), number)).await.unwrap();
    }
    until("the end of the earlier versions", async || {
        bench.deploy(&app(None, 3)).await.unwrap();
        let left = bench.platform.versions(Some("gone")).await.unwrap();
        let left: Vec<u64> = left.iter().map(|version| version.version).collect();
        (left == [3]).then_some(())
    })
    .await;
    bench.deploy(&app(Some(4), 3)).await.unwrap();
    let again = bench.platform.versions(Some("gone")).await.unwrap();
    let numbers: Vec<u64> = again.iter().map(|version| version.version).collect();
    assert_eq!(numbers, [3, 4], "no number is given twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_not_what_was_deployed_is_not_run_and_its_neighbours_go_on() {
    let bench = Bench::with(
        "[app]\nname = \"pages\"\n[[function]]\nname = \"plain\"\ncomponent = \"tidegate_plain_http.wasm\"\n\
         trigger = [{ http = { route = \"/plain\" } }]\n[[function]]\nname = \"web\"\n\
         component = \"tidegate_guests_web.wasm\"\ntrigger = [{ http = { route = \"/say/{what}\" } }]\n\
         grants.events.emit = [\"Do\"]\n",
    )
    .await;
    let versions = bench.platform.versions(Some("plain")).await.unwrap();
    let store = bench.platform.store();
    let mut stage = store.stage().await.unwrap();
    // Another component, which would load.
    let other = std::fs::read(crate::bench::components().join("hello_http.wasm")).unwrap();
    stage.write(other.into()).await.unwrap();
    let overwritten = Publication {
        bucket: "$components".into(),
        key: versions[0].digest.clone(),
        staged: Some(stage.finish().await.unwrap()),
        content_type: None,
        user: Default::default(),
        condition: Condition::None,
    };
    let objects = vec![overwritten];
    store
        .commit(Unit {
            objects,
            ..Unit::default()
        })
        .await
        .unwrap();
    let bench = bench.restart(|_| {}).await;
    let running: Vec<String> = bench
        .platform
        .functions()
        .into_iter()
        .map(|function| function.name)
        .collect();
    assert_eq!(running, ["web"]);
    assert_eq!(bench.get("/say/hello").await.0, 200);
}
