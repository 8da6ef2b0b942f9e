//! `tidegate new`: what it writes builds, is tested, deploys and runs by the commands that it prints.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tidegate_harness::{Host, Install, Options, until, workspace_root};
use tidegate_it::Scene;

const RUN_LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_new_python_function_builds_and_runs_as_printed() -> Result<()> {
    let scene = Scene::new()?;
    let steps = new(&scene, "python")?;
    greets_as_printed(&scene, &steps).await
}

#[tokio::test]
async fn a_new_javascript_function_builds_and_runs_as_printed() -> Result<()> {
    let scene = Scene::new()?;
    let steps = new(&scene, "js")?;
    greets_as_printed(&scene, &steps).await
}

/// Compiled as all functions are here, which may be another way than `rustup target add`.
#[tokio::test]
async fn a_new_rust_function_builds_and_runs_as_printed() -> Result<()> {
    let scene = Scene::new()?;
    let steps = new(&scene, "rust")?;
    let mut xtask = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    xtask.args(["xtask", "functions"]).arg(scene.path("greeter"));
    succeeded(&xtask.current_dir(workspace_root()).output()?)?;
    let built = scene.path("greeter/target/wasm32-wasip2/release");
    std::fs::create_dir_all(&built)?;
    let gathered = Install::find()?.functions.join("greeter.wasm");
    std::fs::copy(&gathered, built.join("greeter.wasm"))?;
    std::fs::remove_file(gathered)?;
    let compiles = |step: &&String| {
        ["rustup ", "cargo build "]
            .iter()
            .any(|tool| step.starts_with(tool))
    };
    let steps: Vec<String> = steps.iter().filter(|step| !compiles(step)).cloned().collect();
    greets_as_printed(&scene, &steps).await
}

#[test]
fn a_name_that_is_none_and_a_folder_that_is_there_are_refused() -> Result<()> {
    let scene = Scene::new()?;
    std::fs::create_dir(scene.path("taken"))?;
    for (name, reason) in [
        ("Nope!", "found the name `Nope!`, expected 1 to 63"),
        ("taken", "cannot make the folder `taken`"),
    ] {
        let refused = tidegate(&scene)?.args(["new", name]).output()?;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains(reason), "{said}");
    }
    Ok(())
}

/// Makes the function `greeter`; the commands that are printed.
fn new(scene: &Scene, language: &str) -> Result<Vec<String>> {
    let made = tidegate(scene)?
        .args(["new", "--lang", language, "greeter"])
        .output()?;
    let steps = succeeded(&made)?;
    Ok(steps
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .map(str::to_owned)
        .collect())
}

async fn greets_as_printed(scene: &Scene, steps: &[String]) -> Result<()> {
    let host = Host::start(Options {
        data_dir: Some(scene.path("data")),
        ..Options::default()
    })
    .await?;
    for number in 1..=2 {
        // The second time round everything is there already.
        let mut shell = tidegate_shell(scene, &host, steps)?;
        succeeded(&tokio::task::spawn_blocking(move || shell.output()).await??)?;
        let greeting = format!("hello ada, number {number}");
        until(&greeting, RUN_LIMIT, async || {
            let logs = host.api.get("/api/v1/logs").await?.to_string();
            Ok(logs.contains(&greeting).then_some(()))
        })
        .await
        .with_context(|| host.log_tail())?;
    }
    Ok(())
}

/// A shell that runs the steps where `tidegate` is a command.
fn tidegate_shell(scene: &Scene, host: &Host, steps: &[String]) -> Result<Command> {
    let tidegate = Install::find()?.tidegate;
    let folder = tidegate.parent().context("`tidegate` lies nowhere")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell
        .args(["-e", "-c", &steps.join("\n")])
        .current_dir(scene.path("."))
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("TIDEGATE_HOST_URL", host.api.base());
    Ok(shell)
}

fn tidegate(scene: &Scene) -> Result<Command> {
    let mut command = Command::new(Install::find()?.tidegate);
    command.current_dir(scene.path("."));
    Ok(command)
}

fn succeeded(output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "{}: {said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(said.into_owned())
}
