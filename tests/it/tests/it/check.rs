//! `tidegate check`: every mistake in one go, without a host.

use std::process::{Command, Output};

use anyhow::Result;
use tidegate_harness::{Install, workspace_root};
use tidegate_it::Scene;

#[test]
fn the_app_of_this_repository_passes() -> Result<()> {
    let checked = check(
        &workspace_root()
            .join("functions/feed-ranking/tidegate.toml")
            .display()
            .to_string(),
    )?;
    assert!(checked.status.success(), "{}", said(&checked));
    Ok(())
}

#[test]
fn every_mistake_of_a_manifest_is_named_with_its_place() -> Result<()> {
    let scene = Scene::new()?;
    let manifest = scene.file(
        "tidegate.toml",
        r#"
[app]
name = "mistaken"
colour = "blue"

[[function]]
name = "limitless"
component = "feed_ranking_ingest.wasm"
trigger = [{ clock = "noon" }]
limits = { memory = "lots" }
grants.objects.reed = ["data/"]
"#,
    )?;
    let checked = check(&manifest.display().to_string())?;
    assert!(!checked.status.success());
    let said = said(&checked);
    for named in ["colour", "clock", "lots", "reed"] {
        assert!(said.contains(named), "`{named}` is not named:\n{said}");
    }
    Ok(())
}

#[test]
fn every_component_that_is_missing_or_none_is_named() -> Result<()> {
    let scene = Scene::new()?;
    scene.file("text.wasm", "this is no component")?;
    let manifest = scene.file(
        "tidegate.toml",
        r#"
[app]
name = "odd"

[[function]]
name = "text"
component = "text.wasm"
trigger = [{ event = "X" }]

[[function]]
name = "absent"
component = "absent.wasm"
trigger = [{ event = "X" }]
"#,
    )?;
    let checked = check(&manifest.display().to_string())?;
    assert!(!checked.status.success());
    let said = said(&checked);
    assert!(
        said.contains("text.wasm") && said.contains("absent.wasm"),
        "{said}"
    );
    Ok(())
}

#[test]
fn mistakes_of_components_are_told_together_with_those_of_the_manifest() -> Result<()> {
    let scene = Scene::new()?;
    let manifest = scene.file(
        "tidegate.toml",
        r#"
[app]
name = "both"
colour = "blue"

[[function]]
name = "ungranted"
component = "feed_ranking_ingest.wasm"
trigger = [{ clock = "noon" }]

[[function]]
name = "deaf"
component = "hello_http.wasm"
trigger = [{ event = "X" }]
grants.state.read = ["hello"]
limits = { memory = "lots" }

[[function]]
name = "absent"
component = "absent.wasm"
trigger = [{ event = "X" }]

[[function]]
name = "nameless"
component = 7
trigger = [{ event = "X" }]
"#,
    )?;
    let checked = check(&manifest.display().to_string())?;
    assert!(!checked.status.success());
    let said = said(&checked);
    for named in [
        "colour",
        "clock",
        "lots",
        "function.nameless.component: found `7`",
        "function.ungranted.component: component `feed_ranking_ingest.wasm` imports `tidegate:function/objects",
        "function.deaf.component: component `hello_http.wasm` exports a `wasi:http` handler",
        "function.absent.component: component `absent.wasm` not found",
    ] {
        assert!(said.contains(named), "`{named}` is not named:\n{said}");
    }
    Ok(())
}

fn check(manifest: &str) -> Result<Output> {
    let install = Install::find()?;
    let mut command = Command::new(&install.tidegate);
    Ok(command
        .args(["check", manifest, "--components"])
        .arg(&install.functions)
        .output()?)
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
