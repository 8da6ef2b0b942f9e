//! Apps that were written for Spin, each with its own `spin.toml`, as they are.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tidegate_harness::{Host, Install, Options, until, workspace_root};
use tidegate_it::Scene;
use tokio::process::Child;

/// Generations of the SDK.
const GENERATIONS: [&str; 3] = ["5", "6", "7"];

const START_LIMIT: Duration = Duration::from_secs(30);

/// The app of one generation in a folder of its own, with its component where its own build would put it.
fn app(scene: &Scene, generation: &str) -> Result<PathBuf> {
    let name = format!("spin_sdk{generation}.wasm");
    let built = scene.path("target/wasm32-wasip2/release");
    std::fs::create_dir_all(&built)?;
    let component = Install::find()?.functions.join(&name);
    std::fs::copy(&component, built.join(&name)).with_context(|| format!("no `{}`", component.display()))?;
    let manifest = workspace_root().join(format!("tests/spin/sdk{generation}/spin.toml"));
    scene.file("spin.toml", &std::fs::read_to_string(manifest)?)
}

async fn host(scene: &Scene, generation: &str) -> Result<Host> {
    host_of(scene, app(scene, generation)?).await
}

async fn host_of(scene: &Scene, manifest: PathBuf) -> Result<Host> {
    let options = scene.options(manifest);
    let env = vec![
        ("TIDEGATE_SECRET_API_TOKEN".into(), "hush".into()),
        // What functions log is told in the host's own log.
        ("RUST_LOG".into(), "info,tidegate::guest=debug".into()),
    ];
    Host::start(Options { env, ..options }).await
}

#[tokio::test]
async fn an_app_of_every_spin_sdk_counts_with_its_key_value_store() -> Result<()> {
    for generation in GENERATIONS {
        let scene = Scene::new()?;
        let host = host(&scene, generation).await?;
        for visit in 1..=2 {
            let path = format!("/sdk{generation}/count/ada");
            let expected = (200, format!("Ahoy there, ada number {visit}"));
            assert_eq!(
                host.api.get_raw(&path).await?,
                expected,
                "spin-sdk {generation}\n{}",
                host.log_tail()
            );
        }
        host.api.get_raw(&format!("/sdk{generation}/count/bob")).await?;
        let keys = host.api.get_raw(&format!("/sdk{generation}/keys/")).await?;
        assert_eq!(keys, (200, "ada bob".into()), "spin-sdk {generation}");
    }
    Ok(())
}

#[tokio::test]
async fn wasi_keyvalue_and_wasi_config_reach_the_same_stores_and_variables() -> Result<()> {
    let scene = Scene::new()?;
    let host = host(&scene, "7").await?;
    for sum in [2, 4] {
        let told = host.api.get_raw("/sdk7/atomics/ada").await?;
        assert_eq!(
            told,
            (200, format!("{sum} first [Some(\"second\"), None]")),
            "{}",
            host.log_tail()
        );
    }
    let counted = host.api.get_raw("/sdk7/count/ada").await?;
    assert_eq!(counted, (200, "Ahoy there, ada number 5".into()));
    let told = host.api.get_raw("/sdk7/config/").await?;
    assert_eq!(told, (200, "Ahoy there: redis welcome".into()));
    Ok(())
}

#[tokio::test]
async fn an_app_is_told_by_which_route_a_request_came() -> Result<()> {
    for generation in GENERATIONS {
        let scene = Scene::new()?;
        let host = host(&scene, generation).await?;
        let path = format!("/sdk{generation}/route/of?me=1");
        let (status, told) = host.api.get_raw(&path).await?;
        let by = format!("/route/of /sdk{generation}/... http");
        assert!(
            status == 200 && told.starts_with(&by) && told.ends_with(&path),
            "spin-sdk {generation}: {status} {told}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_required_variable_of_an_app_is_a_secret_of_the_host() -> Result<()> {
    for generation in GENERATIONS {
        let scene = Scene::new()?;
        let host = host(&scene, generation).await?;
        let told = host.api.get_raw(&format!("/sdk{generation}/token/")).await?;
        assert_eq!(told, (200, "hush".into()), "spin-sdk {generation}");
    }
    Ok(())
}

#[tokio::test]
async fn a_store_that_the_app_does_not_name_is_denied_and_the_log_names_the_grant() -> Result<()> {
    for generation in GENERATIONS {
        let scene = Scene::new()?;
        let host = host(&scene, generation).await?;
        let (status, _) = host
            .api
            .get_raw(&format!("/sdk{generation}/other/secrets"))
            .await?;
        assert_eq!(status, 500, "spin-sdk {generation}");
        let log = std::fs::read_to_string(host.log_file())?;
        assert!(
            log.contains("missing grant `state.read"),
            "spin-sdk {generation}: {log}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_call_of_what_this_host_does_not_offer_traps_and_says_what_was_called() -> Result<()> {
    for generation in GENERATIONS {
        let scene = Scene::new()?;
        let host = host(&scene, generation).await?;
        let (status, told) = host.api.get_raw(&format!("/sdk{generation}/mysql/")).await?;
        let named = told.contains("called `[static]connection.open") && told.contains("/mysql@");
        assert!(status == 500 && named, "spin-sdk {generation}: {status} {told}");
    }
    Ok(())
}

#[test]
fn checking_an_app_warns_of_imports_that_trap() -> Result<()> {
    for generation in GENERATIONS {
        let scene = Scene::new()?;
        let manifest = app(&scene, generation)?;
        let checked = Command::new(&Install::find()?.tidegate)
            .arg("check")
            .arg(manifest)
            .output()?;
        let warned = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{warned}");
        let expected = format!("warning: `counter{generation}` imports `");
        assert!(
            warned.contains(&expected) && warned.contains("/mysql@"),
            "{warned}"
        );
    }
    Ok(())
}

/// A Redis server, for as long as it is held.
struct Redis {
    port: u16,
    _server: Child,
}

impl Redis {
    async fn start(scene: &Scene) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = tokio::process::Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()])
            .current_dir(scene.path("."))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start `redis-server`, which `cargo xtask test` installs")?;
        until("Redis answers", START_LIMIT, async || {
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })
        .await?;
        Ok(Self {
            port,
            _server: server,
        })
    }

    /// Lets the app look for Redis where this one is.
    fn told(&self, manifest: &Path) -> Result<()> {
        let text = std::fs::read_to_string(manifest)?;
        Ok(std::fs::write(
            manifest,
            text.replace("6379", &self.port.to_string()),
        )?)
    }
}

#[tokio::test]
async fn an_app_of_every_spin_sdk_counts_in_redis() -> Result<()> {
    let servers = Scene::new()?;
    let redis = Redis::start(&servers).await?;
    for generation in GENERATIONS {
        let scene = Scene::new()?;
        redis.told(&app(&scene, generation)?)?;
        let host = Host::start(scene.options(scene.path("spin.toml"))).await?;
        for visit in 1..=2 {
            let path = format!("/sdk{generation}/redis/ada{generation}");
            let counted = host.api.get_raw(&path).await?;
            assert_eq!(
                counted,
                (200, format!("{visit} seen")),
                "spin-sdk {generation}\n{}",
                host.log_tail()
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_redis_server_that_the_app_does_not_name_is_refused() -> Result<()> {
    for generation in GENERATIONS {
        let scene = Scene::new()?;
        let manifest = app(&scene, generation)?;
        let text = std::fs::read_to_string(&manifest)?;
        std::fs::write(
            &manifest,
            text.replace("[\"{{ redis_url }}\"]", "[\"redis://127.0.0.1:1\"]"),
        )?;
        let host = host_of(&scene, manifest).await?;
        let (status, _) = host.api.get_raw(&format!("/sdk{generation}/redis/ada")).await?;
        let log = std::fs::read_to_string(host.log_file())?;
        let named = log.contains("missing grant `redis.hosts = [\\\"127.0.0.1:6379")
            || log.contains("missing grant `redis.hosts = [\"127.0.0.1:6379");
        assert!(status == 500 && named, "spin-sdk {generation}: {status}\n{log}");
    }
    Ok(())
}
