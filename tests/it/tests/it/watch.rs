//! `tidegate up --watch`: a change is deployed, a mistake is told and changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_harness::{Host, Install, Options, until};
use tidegate_it::Scene;

fn manifest(kind: &str) -> String {
    format!(
        r#"
[app]
name = "watched"

[[function]]
name = "step"
component = "step.wasm"
trigger = [{{ event = "{kind}" }}]
grants.objects.read = ["data/in/"]
grants.state.read = ["counters"]
grants.events.emit = ["Echo"]
"#
    )
}

struct Watched {
    host: Host,
    manifest: PathBuf,
    functions: PathBuf,
    scene: Scene,
}

impl Watched {
    async fn start() -> Result<Self> {
        let scene = Scene::new()?;
        let functions = Install::find()?.functions;
        std::fs::copy(functions.join("tidegate_guests.wasm"), scene.path("step.wasm"))?;
        let manifest = scene.file("tidegate.toml", &manifest("First"))?;
        let options = Options {
            watch: true,
            ..scene.options(manifest.clone())
        };
        Ok(Self {
            host: Host::start(options).await?,
            manifest,
            functions,
            scene,
        })
    }

    /// Waits until the function is live in a version.
    async fn until_version(&self, version: u64) -> Result<Value> {
        until(
            &format!("version {version}"),
            Duration::from_secs(120),
            async || {
                let answer = self.host.api.get("/api/v1/functions").await?;
                let function = answer["functions"][0].clone();
                Ok((function["version"] == json!(version)).then_some(function))
            },
        )
        .await
    }

    async fn until_told(&self, what: &str) -> Result<()> {
        let told = async || {
            let log = std::fs::read_to_string(self.host.log_file()).context("no log")?;
            Ok(log.contains(what).then_some(()))
        };
        until(&format!("`{what}` in the log"), Duration::from_secs(60), told).await
    }
}

/// A file that appears as a whole, as an editor or a build leaves it.
fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(beside, file).context("cannot replace a file")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_app_is_deployed_again_when_it_changes_and_a_mistake_changes_nothing() -> Result<()> {
    let watched = Watched::start().await?;
    watched.until_version(1).await?;

    replace(&watched.manifest, manifest("Second").as_bytes())?;
    let second = watched.until_version(2).await?;
    assert_eq!(second["triggers"], json!(["event Second"]));

    let mistaken = manifest("Third").replace("grants.objects", "grant.objects");
    replace(&watched.manifest, mistaken.as_bytes())?;
    watched.until_told("function.step.grant: unknown key").await?;
    let still = watched.until_version(2).await?;
    assert_eq!(still["triggers"], json!(["event Second"]));
    watched
        .host
        .api
        .event("Second", json!({ "do": "nothing" }))
        .await?;

    replace(&watched.manifest, manifest("Third").as_bytes())?;
    watched.until_version(3).await?;

    // A component that is no component, and then another one.
    let component = watched.scene.path("step.wasm");
    replace(&component, b"no component")?;
    watched.until_told("not a WebAssembly component").await?;
    watched.until_version(3).await?;
    let whole = std::fs::read(watched.functions.join("tidegate_guests.wasm"))?;
    // An empty custom section makes it another component that does the same.
    replace(&component, &[whole.as_slice(), &[0, 2, 1, b'x']].concat())?;
    let fourth = watched.until_version(4).await?;
    assert_ne!(fourth["digest"], second["digest"]);
    Ok(())
}
