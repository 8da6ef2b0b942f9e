//! What HTTP functions answered is listed, and what they said is found.

use std::process::Output;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tidegate_harness::{Host, Install, until};
use tidegate_it::Scene;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(60);
const MANIFEST: &str = r#"
[app]
name = "web"

[[function]]
name = "web"
component = "tidegate_guests_web.wasm"
trigger = [{ http = { route = "/{*rest}" } }]
grants.events.emit = ["Do"]
"#;

async fn tidegate(host: &Host, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(Install::find()?.tidegate);
    command.args(args).env("TIDEGATE_HOST_URL", &host.ready.gateway);
    Ok(command.output().await?)
}

async fn told(host: &Host, args: &[&str]) -> Result<String> {
    let output = tidegate(host, args).await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{errors}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_listed_and_their_lines_are_found() -> Result<()> {
    let scene = Scene::new()?;
    let host = Host::start(scene.options(scene.file("tidegate.toml", MANIFEST)?)).await?;
    assert_eq!(host.api.get_raw("/say/hello").await?.0, 200);
    assert_eq!(host.api.get_raw("/trap").await?.0, 500);
    let failed = ["requests", "--function", "web", "--failed", "--json"];
    let answer = until("the record of the trap", LIMIT, async || {
        let answer: Value = serde_json::from_str(&told(&host, &failed).await?)?;
        Ok(answer["requests"][0].is_object().then_some(answer))
    })
    .await?;
    let trap = &answer["requests"][0];
    assert_eq!(answer["requests"].as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!((&trap["path"], &trap["status"]), (&"/trap".into(), &500.into()));

    let listed = told(&host, &["requests", "--since", "1h"]).await?;
    let lines: Vec<&str> = listed.lines().collect();
    let [said, trapped] = lines.as_slice() else {
        anyhow::bail!("not two lines:\n{listed}");
    };
    assert!(
        said.contains("web@1") && said.contains("GET /say/hello"),
        "{listed}"
    );
    assert!(
        said.contains("cold, cpu ") && said.contains(", 2 lines"),
        "{listed}"
    );
    assert!(trapped.contains("trap: "), "{listed}");
    assert_eq!(
        told(&host, &["requests", "--function", "none"]).await?,
        "no such requests\n"
    );

    let logged = told(&host, &["logs", "--function", "web", "--grep", "hello"]).await?;
    assert!(
        logged.contains("logged hello") && logged.contains("printed hello"),
        "{logged}"
    );
    let run = trap["run"].as_str().unwrap_or_default();
    let logged = told(&host, &["logs", "--run", run]).await?;
    assert!(logged.contains("about to trap"), "{logged}");
    let odd = tidegate(&host, &["requests", "--limit", "0"]).await?;
    assert!(String::from_utf8_lossy(&odd.stderr).contains("`limit` is 0, allowed are 1 to 10000"));
    Ok(())
}
