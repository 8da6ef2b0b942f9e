//! An app that Terraform declares: applied, changed, mistaken, and destroyed, with hosts on the real servers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_cloud_tests::{Servers, Terraform};
use tidegate_harness::{Host, Install, Options, until};
use tidegate_it::{Flavour, interactions};

const VISIBILITY: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(300);
const APP: &str = "examples/feed-ranking";

/// Hosts that hold no state, and Terraform beside them.
struct Shore {
    terraform: Terraform,
    folder: TempDir,
    servers: Servers,
}

impl Shore {
    async fn new() -> Result<Option<Self>> {
        let Some(terraform) = Terraform::find()? else {
            return Ok(None);
        };
        let servers = Servers::start().await?;
        Ok(Some(Self {
            terraform: terraform.at(&servers.settings("shore")),
            folder: TempDir::new()?,
            servers,
        }))
    }

    /// A host with a worker, on a data folder of its own.
    async fn host(&self) -> Result<Host> {
        let file = self.folder.path().join("config.toml");
        let config = self.servers.config("shore", VISIBILITY);
        std::fs::write(&file, config.replace("start = false", "start = true"))?;
        Host::start(Options {
            env: vec![("TIDEGATE_CONFIG".into(), file.display().to_string())],
            ..Options::default()
        })
        .await
    }

    /// What every root module is told: the store, and the host to wait for.
    fn told(host: &Host) -> Result<Value> {
        Ok(json!({
            "platform": {
                "table_name": "shore",
                "table_arn": "arn:aws:dynamodb:us-east-1:123456789012:table/shore",
                "bucket_name": "shore",
                "bucket_arn": "arn:aws:s3:::shore",
                "queues_arn": "arn:aws:sqs:us-east-1:123456789012:shore-",
            },
            "wait": { "host": host.ready.gateway, "program": Install::find()?.tidegate },
        }))
    }
}

/// The app with a training of seconds; `seed` is a variable of one function that nothing else depends on.
fn small_app(host: &Host, seed: &str) -> Result<Value> {
    let mut told = Shore::told(host)?;
    let train = json!({
        "embedding_dim": "16", "towers": "32,16", "batch_size": "256", "patience": "4", "max_epochs": "4",
    });
    told["components"] = json!(Install::find()?.functions);
    told["variables"] = json!({ "train": train, "generate": { "seed": seed } });
    Ok(told)
}

/// The latest version of each function.
async fn versions(host: &Host) -> Result<Vec<(String, u64)>> {
    let functions = host.api.get("/api/v1/functions").await?;
    let found = functions["functions"].as_array().into_iter().flatten();
    let named = found.map(|one| {
        let name = one["name"].as_str().context("no name")?;
        Ok((name.to_owned(), one["version"].as_u64().context("no version")?))
    });
    named.collect()
}

/// Waits until a host runs these versions: one host deploys, the others follow within seconds.
async fn runs(host: &Host, expected: &[(String, u64)]) -> Result<()> {
    until("the versions that are applied", LIMIT, async || {
        Ok((versions(host).await? == expected).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_terraform_applies_predicts_and_is_changed_and_destroyed() -> Result<()> {
    let Some(shore) = Shore::new().await? else {
        return Ok(());
    };
    let (terraform, apply) = (&shore.terraform, ["apply", "-auto-approve"]);
    let host = shore.host().await?;
    terraform.run(APP, &["init"]).await?;
    terraform.variables(APP, &small_app(&host, "1")?)?;
    terraform
        .run(APP, &apply)
        .await
        .with_context(|| host.log_tail())?;
    let all = versions(&host).await?;
    eprintln!("applied: {all:?}");
    assert!(
        all.len() == 7 && all.iter().all(|(_, version)| *version == 1),
        "{all:?}"
    );

    let file = interactions(4000, 1, Flavour::Clean);
    host.bucket("data").put("raw/first.csv", file).await?;
    until("a model", LIMIT, async || Ok(host.api.model("ranker").await.ok()))
        .await
        .with_context(|| host.log_tail())?;
    // Another host, with an empty folder, answers over HTTPS from what the store has.
    let other = shore.host().await?;
    let question = json!({ "user_id": 1, "item_ids": [1, 2, 5], "context": { "device": "mobile" } });
    let https = other.https()?;
    let answer = until("a prediction", LIMIT, async || {
        Ok(https.post("/predict", &question).await.ok())
    })
    .await
    .with_context(|| other.log_tail())?;
    eprintln!("predicted over HTTPS by a host without state: {answer}");
    assert_eq!(
        answer["predictions"].as_array().map(Vec::len),
        Some(3),
        "{answer}"
    );

    // A change of one function touches nothing else, in the plan and on the hosts.
    terraform.variables(APP, &small_app(&host, "2")?)?;
    let said = terraform.run(APP, &apply).await?;
    assert!(said.contains("1 added, 1 changed, 1 destroyed"), "{said}");
    let expected = all
        .iter()
        .map(|(name, _)| (name.clone(), u64::from(name == "generate") + 1));
    let changed: Vec<_> = expected.collect();
    runs(&host, &changed).await?;
    let said = terraform.run(APP, &["plan", "-detailed-exitcode"]).await?;
    assert!(said.contains("No changes"), "{said}");
    eprintln!("changed, and nothing else: {changed:?}");

    terraform
        .run(APP, &["destroy", "-auto-approve"])
        .await
        .with_context(|| host.log_tail())?;
    runs(&host, &[]).await?;
    let declared = host.api.get("/api/v1/declared").await?;
    assert_eq!(declared["declared"], json!([]));
    Ok(())
}

/// A root module with one function.
fn one(component: &str, memory: &str) -> String {
    format!(
        r#"
variable "platform" {{ type = any }}
variable "wait" {{ type = any }}

module "one" {{
  source    = "../modules/function"
  platform  = var.platform
  wait      = var.wait
  app       = "alone"
  name      = "step"
  component = "{component}"
  words = {{
    trigger = [{{ event = "Do" }}]
    grants = {{
      objects = {{ read = ["data/in/"] }}
      state   = {{ read = ["counters"], write = ["counters"] }}
      events  = {{ emit = ["Echo"] }}
    }}
    limits = {{ memory = "{memory}" }}
  }}
}}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_terraform_applies_with_a_mistake_fails_by_name_and_is_mended_by_the_next_apply() -> Result<()> {
    let Some(shore) = Shore::new().await? else {
        return Ok(());
    };
    let (terraform, apply) = (&shore.terraform, ["apply", "-auto-approve"]);
    let host = shore.host().await?;
    let guests = Install::find()?
        .component("tidegate_guests.wasm")
        .display()
        .to_string();
    terraform.write("one", "main.tf", &one(&guests, "12 parsecs"))?;
    terraform.variables("one", &Shore::told(&host)?)?;
    terraform.run("one", &["init"]).await?;
    let said = terraform.fail("one", &apply).await?;
    let told = "`alone/step` is refused: function.step.limits.memory: found `12 parsecs`";
    assert!(
        said.contains(told) && said.contains("module.one.terraform_data.deployed"),
        "{said}"
    );

    let broken = shore.folder.path().join("broken.wasm");
    std::fs::write(&broken, "no component at all")?;
    terraform.write("one", "main.tf", &one(&broken.display().to_string(), "64MiB"))?;
    let said = terraform.fail("one", &apply).await?;
    assert!(
        said.contains("`alone/step` is refused: function.step.component: component `broken.wasm`"),
        "{said}"
    );

    // Two at once: one of them is told to wait for the other, and nothing is left that a further one would change.
    terraform.write("one", "main.tf", &one(&guests, "64MiB"))?;
    let (first, second) = tokio::join!(terraform.try_run("one", &apply), terraform.try_run("one", &apply));
    let ended = [first?, second?];
    assert!(ended.iter().any(|(ended, _)| *ended), "{ended:?}");
    for (_, said) in ended.iter().filter(|(ended, _)| !ended) {
        ensure!(said.contains("Error acquiring the state lock"), "{said}");
    }
    let said = terraform.run("one", &["plan", "-detailed-exitcode"]).await?;
    assert!(said.contains("No changes"), "{said}");
    assert_eq!(versions(&host).await?, [("step".to_owned(), 1)]);
    Ok(())
}
