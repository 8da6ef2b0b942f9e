//! What functions say is found again, and what the host says is marked with what it is about.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_harness::{Host, Install, until};
use tidegate_it::Scene;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(60);
const MANIFEST: &str = r#"
[app]
name = "talkative"

[[function]]
name = "one"
component = "tidegate_guests.wasm"
trigger = [{ event = "Do" }]
grants.objects.read = ["data/in/"]
grants.state.read = ["counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Echo"]
retry = { max_attempts = 1 }

[[function]]
name = "other"
component = "tidegate_guests.wasm"
trigger = [{ event = "Also" }]
grants.objects.read = ["data/in/"]
grants.state.read = ["counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Echo"]
retry = { max_attempts = 1 }
"#;

struct Talk {
    host: Host,
    tidegate: PathBuf,
    // Held for its removal at the end.
    _scene: Scene,
}

impl Talk {
    async fn start() -> Result<Self> {
        let scene = Scene::new()?;
        let mut options = scene.options(scene.file("tidegate.toml", MANIFEST)?);
        options.env.push(("TIDEGATE_LOG".into(), "json".into()));
        Ok(Self {
            host: Host::start(options).await?,
            tidegate: Install::find()?.tidegate,
            _scene: scene,
        })
    }

    /// Lets a function say so many lines, and waits until its run has ended.
    async fn say(&self, kind: &str, deed: Value) -> Result<String> {
        let sent = self.host.api.event(kind, deed).await?;
        let run = sent["run"].as_str().context("no run")?.to_owned();
        until(&format!("the end of run `{run}`"), LIMIT, async || {
            let found = self.host.api.run(&run).await?;
            Ok((found.state.as_deref() != Some("running")).then_some(()))
        })
        .await?;
        Ok(run)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.tidegate);
        command
            .arg("logs")
            .args(args)
            .env("TIDEGATE_HOST_URL", &self.host.ready.gateway);
        command
    }

    /// The messages that `tidegate logs` finds.
    async fn found(&self, args: &[&str]) -> Result<Vec<String>> {
        let output = self.command(&[args, &["--json"]].concat()).output().await?;
        anyhow::ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!(answer["complete"], true, "{answer}");
        let lines = answer["lines"].as_array().context("no lines")?;
        let message = |line: &Value| line["message"].as_str().unwrap_or_default().to_owned();
        Ok(lines.iter().map(message).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_found_by_run_function_text_and_age() -> Result<()> {
    let talk = Talk::start().await?;
    let first = talk.say("Do", json!({ "do": "logs", "lines": 2 })).await?;
    talk.say("Also", json!({ "do": "logs", "lines": 3 })).await?;
    let two = ["line 0", "line 1"];
    assert_eq!(talk.found(&["--run", &first]).await?, two);
    assert_eq!(talk.found(&["--function", "one"]).await?, two);
    assert_eq!(talk.found(&["--function", "other"]).await?.len(), 3);
    assert_eq!(talk.found(&["--grep", "line 1"]).await?, ["line 1", "line 1"]);
    assert_eq!(
        talk.found(&["--function", "one", "--limit", "1"]).await?,
        ["line 1"]
    );
    assert_eq!(talk.found(&["--since", "1h"]).await?.len(), 5);
    assert_eq!(talk.found(&["--since", "0ms"]).await?.len(), 0);
    let odd = talk.command(&["--since", "yesterday"]).output().await?;
    assert!(String::from_utf8_lossy(&odd.stderr).contains("`yesterday` is no duration"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_followed_after_those_that_are_kept() -> Result<()> {
    let talk = Talk::start().await?;
    talk.say("Do", json!({ "do": "logs", "lines": 1 })).await?;
    let mut following = talk
        .command(&["--follow", "--json", "--function", "one"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(following.stdout.take().context("no output")?).lines();
    let mut next = async || -> Result<Value> {
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await??;
        Ok(serde_json::from_str(&line.context("the end")?)?)
    };
    assert_eq!(next().await?["message"], "line 0");
    talk.say("Also", json!({ "do": "logs", "lines": 1 })).await?;
    let run = talk.say("Do", json!({ "do": "logs", "lines": 2 })).await?;
    for message in ["line 0", "line 1"] {
        let line = next().await?;
        assert_eq!(
            (&line["message"], &line["run"]),
            (&message.into(), &run.clone().into()),
            "{line}"
        );
        assert_eq!(line["function"], "one");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_own_lines_carry_trace_run_and_function() -> Result<()> {
    let talk = Talk::start().await?;
    let deed = json!({ "do": "read", "bucket": "data", "key": "in/never.txt" });
    let run = talk.say("Do", deed).await?;
    let line = until("the line of a failure", LIMIT, async || {
        let text = std::fs::read_to_string(talk.host.log_file())?;
        let lines = text.lines().filter(|line| line.contains("\"timestamp\""));
        let lines: Vec<Value> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(lines
            .into_iter()
            .find(|line| line["message"] == "invocation failed"))
    })
    .await?;
    assert_eq!(
        (&line["run_id"], &line["function"]),
        (&run.into(), &"one".into()),
        "{line}"
    );
    let digits = |name: &str| line[name].as_str().map(str::len);
    assert_eq!(
        (digits("trace_id"), digits("span_id")),
        (Some(32), Some(16)),
        "{line}"
    );
    Ok(())
}
