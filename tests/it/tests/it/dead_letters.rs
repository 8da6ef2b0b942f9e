//! What a function gave up on is kept, found, sent through again, dropped; and a paused run goes on.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_harness::{Host, Install, Run, until};
use tidegate_it::Scene;

const MANIFEST: &str = r#"
[app]
name = "letters"

[[function]]
name = "strict"
component = "tidegate_guests.wasm"
trigger = [{ event = "Do" }]
grants.objects.read = ["data/in/"]
grants.state.read = ["counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Echo"]
retry = { max_attempts = 2, initial = "10ms" }

[[function]]
name = "patient"
component = "tidegate_guests.wasm"
trigger = [{ event = "Halt" }]
grants.objects.read = ["data/in/"]
grants.state.read = ["counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Echo"]
retry = { max_attempts = 1, on_exhausted = "pause" }
"#;

struct Letters {
    host: Host,
    tidegate: PathBuf,
    // Held for its removal at the end.
    _scene: Scene,
}

impl Letters {
    async fn start() -> Result<Self> {
        let scene = Scene::new()?;
        let manifest = scene.file("tidegate.toml", MANIFEST)?;
        Ok(Self {
            host: Host::start(scene.options(manifest)).await?,
            tidegate: Install::find()?.tidegate,
            _scene: scene,
        })
    }

    /// Sends an event that wants an object, and waits until its run is in a state.
    async fn want(&self, kind: &str, key: &str, state: &str) -> Result<String> {
        let deed = json!({ "do": "read", "bucket": "data", "key": key });
        let sent = self.host.api.event(kind, deed).await?;
        let run = sent["run"].as_str().context("no run")?.to_owned();
        self.in_state(&run, state).await?;
        Ok(run)
    }

    async fn in_state(&self, run: &str, state: &str) -> Result<Run> {
        until(
            &format!("run `{run}` {state}"),
            Duration::from_secs(60),
            async || {
                let found = self.host.api.run(run).await?;
                Ok((found.state.as_deref() == Some(state)).then_some(found))
            },
        )
        .await
    }

    fn tidegate(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.tidegate);
        Ok(command
            .args(args)
            .env("TIDEGATE_HOST_URL", &self.host.ready.gateway)
            .output()?)
    }

    /// What a command that must succeed says.
    fn says(&self, args: &[&str]) -> Result<String> {
        let output = self.tidegate(args)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(output.status.success(), "{args:?}: {said}{complained}");
        Ok(said)
    }

    /// Why a command that must fail did.
    fn complains(&self, args: &[&str]) -> Result<String> {
        let output = self.tidegate(args)?;
        anyhow::ensure!(!output.status.success(), "{args:?} succeeded");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The ids of the letters that a list has.
    fn ids(&self, filter: &[&str]) -> Result<Vec<String>> {
        let answer = self.says(&[&["dlq", "list", "--json"], filter].concat())?;
        let answer: Value = serde_json::from_str(&answer)?;
        let letters = answer["letters"].as_array().context("no list")?;
        let id = |letter: &Value| letter["id"].as_str().unwrap_or_default().to_owned();
        Ok(letters.iter().map(id).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_found_redriven_at_a_rate_and_dropped() -> Result<()> {
    let letters = Letters::start().await?;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(letters.want("Do", "in/late.txt", "dead").await?);
    }
    let other = letters.want("Do", "in/never.txt", "dead").await?;

    assert_eq!(letters.ids(&["--function", "strict"])?.len(), 4);
    assert_eq!(letters.ids(&["--function", "patient"])?.len(), 0);
    assert_eq!(letters.ids(&["--reason", "late.txt"])?.len(), 3);
    assert_eq!(letters.ids(&["--older-than", "1h"])?.len(), 0);
    assert_eq!(letters.ids(&["--newer-than", "1h"])?.len(), 4);
    let never = letters.ids(&["--run", &other])?;
    let [never] = never.as_slice() else {
        panic!("{never:?}")
    };
    let shown = letters.says(&["dlq", "show", never])?;
    for told in [
        "strict",
        "reject",
        "in/never.txt",
        &other,
        "00-",
        "\"do\":\"read\"",
    ] {
        assert!(shown.contains(told), "`{told}` is not in\n{shown}");
    }

    letters
        .host
        .api
        .put_object("data", "in/late.txt", b"at last".to_vec())
        .await?;
    let said = letters.says(&["dlq", "redrive", "--reason", "late.txt", "--rate", "20/s"])?;
    assert_eq!(said, "3 redriven\n");
    for run in &runs {
        letters.in_state(run, "done").await?;
    }
    assert_eq!(letters.ids(&[])?, [never.as_str()]);

    // Redriven in vain it is a letter again.
    assert_eq!(letters.says(&["dlq", "redrive", never])?, "1 redriven\n");
    letters.in_state(&other, "dead").await?;
    assert_eq!(letters.ids(&[])?, [never.as_str()]);
    assert_eq!(letters.says(&["dlq", "drop", never])?, "1 dropped\n");
    let run = letters.in_state(&other, "dead").await?;
    assert_eq!(run.steps[0].state, "dropped", "{run:#?}");
    assert_eq!(letters.says(&["dlq", "list"])?, "no dead letters\n");

    let gone = letters.complains(&["dlq", "redrive", never])?;
    assert!(gone.contains("nothing was redriven"), "{gone}");
    let vague = letters.complains(&["dlq", "drop"])?;
    assert!(vague.contains("--all"), "{vague}");
    let odd = letters.complains(&["dlq", "redrive", "--all", "--rate", "fast"])?;
    assert!(odd.contains("10/s"), "{odd}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_run_is_resumed_from_the_step_that_failed() -> Result<()> {
    let letters = Letters::start().await?;
    let run = letters.want("Halt", "in/late.txt", "paused").await?;
    assert!(letters.says(&["runs", &run])?.contains("paused"));
    assert_eq!(letters.ids(&["--paused"])?.len(), 1);
    let wrong = letters.complains(&["runs", "resume", &run, "--step", "strict"])?;
    assert!(wrong.contains("no paused step `strict`"), "{wrong}");

    letters
        .host
        .api
        .put_object("data", "in/late.txt", b"at last".to_vec())
        .await?;
    assert_eq!(
        letters.says(&["runs", "resume", &run, "--step", "patient"])?,
        "1 resumed\n"
    );
    letters.in_state(&run, "done").await?;
    let again = letters.complains(&["runs", "resume", &run])?;
    assert!(again.contains("no paused step"), "{again}");
    Ok(())
}
