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
