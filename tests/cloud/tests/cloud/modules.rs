//! The Terraform modules by themselves: their form, their own tests, and what is generated into them.

use anyhow::Result;
use tidegate_cloud::Cloud;
use tidegate_cloud_tests::{Servers, Terraform};
use tidegate_harness::{Install, workspace_root};
use tidegate_runtime::store::conformance::enqueue;
use tidegate_runtime::store::{Store, Unit};
use tokio::process::Command;

const MODULES: [&str; 6] = [
    "modules/platform",
    "modules/function",
    "modules/app",
    "modules/gpu-pool",
    "examples/feed-ranking",
    "examples/one-function",
];

#[tokio::test]
async fn every_terraform_module_is_valid_and_passes_its_tests() -> Result<()> {
    let Some(terraform) = Terraform::find()? else {
        return Ok(());
    };
    terraform
        .run(".", &["fmt", "-check", "-recursive", "-diff"])
        .await?;
    for root in MODULES {
        terraform.run(root, &["init", "-backend=false"]).await?;
        terraform.run(root, &["validate"]).await?;
        terraform.run(root, &["test"]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_of_gpus_looks_at_the_queues_that_hosts_make_of_jobs() -> Result<()> {
    let scaling = workspace_root().join("infra/terraform/modules/gpu-pool/scaling.tf");
    let scaling = std::fs::read_to_string(scaling)?;
    let named = scaling.lines().filter_map(|line| {
        let (kind, queue) = line.trim().strip_prefix('"')?.split_once("\" ")?;
        let queue = queue.trim_start_matches([' ', '=']);
        Some((kind, queue.strip_prefix('"')?.strip_suffix('"')?))
    });
    let servers = Servers::start().await?;
    let settings = servers.settings("shore");
    let store = Cloud::open(settings.clone()).await?;
    let mut expected = Vec::new();
    for (kind, queue) in named {
        let told = enqueue(&format!("$jobs/{kind}"), kind);
        store
            .commit(Unit {
                enqueue: vec![told],
                ..Unit::default()
            })
            .await?;
        expected.push(format!("{}{queue}", settings.queues));
    }
    let mut made = servers.outside().queues("shore-").await?;
    assert_eq!(expected.len(), 7, "{expected:?}");
    made.sort();
    expected.sort();
    assert_eq!(made, expected);
    Ok(())
}

#[tokio::test]
async fn the_example_is_what_export_writes_of_the_app() -> Result<()> {
    let root = workspace_root();
    let manifest = root.join("functions/feed-ranking/tidegate.toml");
    let mut export = Command::new(Install::find()?.tidegate);
    let output = export
        .args(["export", "terraform"])
        .arg(manifest)
        .output()
        .await?;
    let file = root.join("infra/terraform/examples/feed-ranking/app.tf");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        std::fs::read_to_string(file)?
    );
    Ok(())
}

#[test]
fn the_module_takes_every_word_of_a_function() -> Result<()> {
    let root = workspace_root();
    let variables = std::fs::read_to_string(root.join("infra/terraform/modules/function/variables.tf"))?;
    let manual = std::fs::read_to_string(root.join("docs/manifest.md"))?;
    let named = manual
        .lines()
        .filter_map(|line| line.strip_prefix("### `function."));
    for word in named.filter_map(|rest| rest.split(['.', '`']).next()) {
        let own = ["name", "component"].contains(&word);
        assert!(
            own || variables.contains(&format!("\"{word}\"")),
            "`words` does not take `{word}`"
        );
    }
    Ok(())
}
