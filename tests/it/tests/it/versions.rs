//! Versions from the command line: listed, weighted, rolled back, and the mistakes that can be made.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tidegate_harness::Host;
use tidegate_it::{Scene, complains, says};

fn manifest(greeting: &str) -> String {
    format!(
        r#"
[app]
name = "greeter"

[[function]]
name = "page"
component = "hello_http.wasm"
trigger = [{{ http = {{ method = "POST", route = "/hello/{{name}}" }} }}]
grants.state.read = ["hello", "greeted"]
grants.state.write = ["greeted"]
variables = {{ greeting = "{greeting}" }}

[[function]]
name = "step"
component = "tidegate_guests.wasm"
trigger = [{{ event = "Do" }}]
grants.objects.read = ["data/in/"]
grants.state.read = ["counters"]
grants.events.emit = ["Echo"]
"#
    )
}

struct Greeter {
    host: Host,
    manifest: PathBuf,
    scene: Scene,
}

impl Greeter {
    async fn start() -> Result<Self> {
        let scene = Scene::new()?;
        let manifest = scene.file("tidegate.toml", &manifest("Hello"))?;
        Ok(Self {
            host: Host::start(scene.options(manifest.clone())).await?,
            manifest,
            scene,
        })
    }

    fn write(&self, greeting: &str) -> Result<()> {
        self.scene.file("tidegate.toml", &manifest(greeting)).map(drop)
    }

    fn deploy(&self, args: &[&str]) -> Result<String> {
        let manifest = self.manifest.display().to_string();
        self.says(&[&["deploy", &manifest], args].concat())
    }

    fn says(&self, args: &[&str]) -> Result<String> {
        says(&self.host, args)
    }

    /// The versions of `page`, each with what its aliases say.
    fn page(&self) -> Result<Vec<(u64, Value)>> {
        let answer: Value = serde_json::from_str(&self.says(&["versions", "page", "--json"])?)?;
        let versions = answer["versions"].as_array().context("no list")?;
        let number = |version: &Value| version["version"].as_u64().context("no number");
        versions
            .iter()
            .map(|version| Ok((number(version)?, version["aliases"].clone())))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_weighted_and_rolled_back_from_the_command_line() -> Result<()> {
    let mut greeter = Greeter::start().await?;
    greeter.write("Ahoy")?;
    assert!(greeter.deploy(&["--no-traffic"])?.contains("version 2"));
    let live = |share: u64| serde_json::json!({ "live": share });
    let none = serde_json::json!({});
    assert_eq!(greeter.page()?, [(1, live(100)), (2, none.clone())]);

    let said = greeter.says(&["alias", "set", "page", "live", "1=90,2=10"])?;
    assert!(said.contains("live 90 %") && said.contains("live 10 %"), "{said}");
    let (status, _) = greeter.host.api.post_raw("/hello/ada", Vec::new()).await?;
    assert_eq!(status, 200);
    greeter.says(&["alias", "set", "page", "candidate", "2"])?;
    greeter.says(&["alias", "remove", "page", "candidate"])?;

    // What was set holds across a start with the same manifest.
    greeter.host.kill().await?;
    greeter.host.restart().await?;
    assert_eq!(greeter.page()?, [(1, live(90)), (2, live(10))]);

    greeter.deploy(&[])?;
    assert_eq!(greeter.page()?, [(1, none.clone()), (2, live(100))]);
    assert_eq!(greeter.says(&["rollback", "page"])?, "page  live 1=90,2=10\n");
    greeter.says(&["rollback", "greeter", "--app"])?;
    assert_eq!(greeter.page()?, [(1, none), (2, live(100))]);
    assert!(greeter.says(&["versions"])?.contains("step"));

    for (args, told) in [
        (&["alias", "set", "page", "live", "1=90,2=20"][..], "sum to 110"),
        (
            &["alias", "set", "page", "live", "7"],
            "function `page` has no version 7; kept are 1, 2",
        ),
        (
            &["alias", "set", "nobody", "live", "1"],
            "no function `nobody` is deployed",
        ),
        (
            &["alias", "set", "page", "Live!", "1"],
            "expected 1 to 63 lower-case letters",
        ),
        (&["alias", "remove", "page", "live"], "cannot be removed"),
        (&["alias", "remove", "page", "candidate"], "it has `live`"),
        (&["rollback", "step"], "nothing to go back to"),
        (&["versions", "nobody"], "no function `nobody` is deployed"),
    ] {
        let complained = complains(&greeter.host, args)?;
        assert!(complained.contains(told), "{args:?}: {complained}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_and_its_lines_tell_the_version_that_ran() -> Result<()> {
    let greeter = Greeter::start().await?;
    let sent = greeter
        .host
        .api
        .event("Do", serde_json::json!({ "do": "logs", "lines": 2 }))
        .await?;
    let run = sent["run"].as_str().context("no run")?;
    let done = async || {
        let said = greeter.says(&["runs", run])?;
        Ok(said.contains("done").then_some(said))
    };
    let said = tidegate_harness::until("the run's end", std::time::Duration::from_secs(60), done).await?;
    assert!(said.contains("step@1"), "{said}");
    let lines = greeter.says(&["logs", "--run", run])?;
    assert!(lines.contains("step@1") && lines.contains("line 1"), "{lines}");
    Ok(())
}
