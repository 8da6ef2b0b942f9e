//! Functions that are declared beside the platform: deployed when they can be, refused by name when not.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_cloud_tests::{Declarer, Servers};
use tidegate_harness::{Host, Install, Options, until};
use tidegate_runtime::sandbox::sha256_hex;
use tokio::process::Command;

const VISIBILITY: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(240);

/// A host, and somebody who declares functions for it.
struct Yard {
    host: Host,
    declarer: Declarer,
    // What the host lies on.
    _servers: Servers,
    _folder: TempDir,
}

/// A component in the bucket: where, and its digest.
struct Placed {
    key: String,
    digest: String,
}

impl Placed {
    fn of(&self) -> (&str, &str) {
        (&self.key, &self.digest)
    }
}

impl Yard {
    async fn new() -> Result<Self> {
        let servers = Servers::start().await?;
        let folder = TempDir::new()?;
        let settings = servers.settings("yard");
        let file = folder.path().join("config.toml");
        std::fs::write(&file, servers.config("yard", VISIBILITY))?;
        let host = Host::start(Options {
            env: vec![("TIDEGATE_CONFIG".into(), file.display().to_string())],
            ..Options::default()
        });
        Ok(Self {
            host: host.await?,
            declarer: Declarer::new(&settings),
            _servers: servers,
            _folder: folder,
        })
    }

    async fn put(&self, file: &str) -> Result<Placed> {
        let bytes = std::fs::read(Install::find()?.component(file))?;
        let digest = sha256_hex(&bytes);
        let key = format!("components/{digest}.wasm");
        self.declarer.put(&key, bytes).await?;
        Ok(Placed { key, digest })
    }

    /// `tidegate declared --wait`: whether it succeeded, and what it said.
    async fn settled(&self, name: &str) -> Result<(bool, String)> {
        let mut command = Command::new(Install::find()?.tidegate);
        command.args(["declared", name, "--wait", "--timeout", "4m"]);
        command.env("TIDEGATE_HOST_URL", &self.host.ready.gateway);
        let output = command.output().await?;
        let said = [output.stdout, output.stderr].concat();
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        ))
    }

    async fn deployed(&self, name: &str) -> Result<()> {
        let (deployed, said) = self.settled(name).await?;
        ensure!(deployed, "{said}\n{}", self.host.log_tail());
        Ok(())
    }

    async fn refused(&self, name: &str, reasons: &[&str]) -> Result<()> {
        let (deployed, said) = self.settled(name).await?;
        ensure!(!deployed, "{said}");
        for reason in reasons {
            let told = format!("`{name}` is refused: {reason}");
            ensure!(said.contains(&told), "no `{told}` in\n{said}");
        }
        Ok(())
    }

    /// The live versions of a function, with their shares.
    async fn live(&self, function: &str) -> Result<Value> {
        let functions = self.host.api.get("/api/v1/functions").await?;
        let found = functions["functions"].as_array().into_iter().flatten();
        let mut found = found.filter(|one| one["name"] == function);
        Ok(found.next().map_or(Value::Null, |one| one["live"].clone()))
    }
}

fn page(greeting: &str) -> Value {
    json!({
        "component": "hello_http.wasm",
        "trigger": [{ "http": { "method": "POST", "route": "/hello/{name}" } }],
        "grants": { "state": { "read": ["hello", "greeted"], "write": ["greeted"] } },
        "variables": { "greeting": greeting },
    })
}

fn step(memory: &str) -> Value {
    json!({
        "trigger": [{ "event": "Do" }],
        "grants": {
            "objects": { "read": ["data/in/"] },
            "state": { "read": ["counters"], "write": ["counters"] },
            "events": { "emit": ["Echo"] },
        },
        "limits": { "memory": memory },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_is_deployed_and_what_is_mistaken_holds_up_nothing_else() -> Result<()> {
    let yard = Yard::new().await?;
    let everything = json!({});
    let hello = yard.put("hello_http.wasm").await?;
    yard.declarer
        .declare("greeter/page", &page("Hello"), hello.of(), &everything)
        .await?;
    yard.deployed("greeter/page").await?;
    let (status, said) = yard.host.api.post_once("/hello/world", "one").await?;
    assert!(
        status == 200 && said.contains("\"greetings\":1"),
        "{status} {said}"
    );

    // Everything that is wrong with a function is told in one go, and its neighbour does not notice.
    let nowhere = ("components/nowhere.wasm", hello.digest.as_str());
    yard.declarer
        .declare(
            "greeter/step",
            &step("12 parsecs"),
            nowhere,
            &json!({ "live": 101 }),
        )
        .await?;
    let reasons = [
        "function.step.limits.memory: found `12 parsecs`, expected a size",
        "function.step.component: component `components/nowhere.wasm` is not in the bucket",
        "found the alias `live` with a share of 101",
    ];
    yard.refused("greeter/step", &reasons).await?;
    assert_eq!(yard.live("page").await?, json!({ "1": 100 }));

    // A component that comes late, or was another one first, is found by itself.
    let guests = std::fs::read(Install::find()?.component("tidegate_guests.wasm"))?;
    let late = ("components/late.wasm", sha256_hex(&guests));
    let declared = (late.0, late.1.as_str());
    yard.declarer
        .declare("greeter/step", &step("64MiB"), declared, &everything)
        .await?;
    yard.refused(
        "greeter/step",
        &["function.step.component: component `components/late.wasm` is not in the bucket"],
    )
    .await?;
    yard.declarer.put(late.0, b"something else".to_vec()).await?;
    let told = until("the other component is refused", LIMIT, async || {
        let (_, said) = yard.settled("greeter/step").await?;
        Ok(said.contains("has the SHA-256").then_some(said))
    });
    assert!(told.await?.contains(&format!("expected `{}`", late.1)));
    yard.declarer.put(late.0, guests).await?;
    until("the component is found", LIMIT, async || {
        Ok((yard.live("step").await? == json!({ "1": 100 })).then_some(()))
    })
    .await?;

    // What changes takes the share that it is given, and nothing else changes.
    yard.declarer
        .declare(
            "greeter/page",
            &page("Moin"),
            hello.of(),
            &json!({ "live": 10, "candidate": 100 }),
        )
        .await?;
    yard.deployed("greeter/page").await?;
    assert_eq!(yard.live("page").await?, json!({ "1": 90, "2": 10 }));
    assert_eq!(yard.live("step").await?, json!({ "1": 100 }));
    yard.declarer
        .declare("greeter/page", &page("Moin"), hello.of(), &everything)
        .await?;
    yard.deployed("greeter/page").await?;
    assert_eq!(yard.live("page").await?, json!({ "2": 100 }));

    // What is not declared any more handles what it has, and goes; the rest stays.
    let sent = json!({ "do": "count", "key": "last" });
    yard.host.api.event("Do", sent).await?;
    yard.declarer.withdraw("greeter/step").await?;
    yard.deployed("greeter").await?;
    let declared = yard.host.api.get("/api/v1/declared").await?;
    assert_eq!(
        declared["declared"].as_array().map(Vec::len),
        Some(1),
        "{declared}"
    );
    assert_eq!(yard.live("step").await?, Value::Null);
    let runs = yard.host.api.runs().await?;
    let run = runs.first().context("no run")?;
    assert_eq!(run.state.as_deref(), Some("done"), "{run:?}");
    Ok(())
}
