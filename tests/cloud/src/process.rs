//! A server's process: started on ports of its own, waited for, and ended with its handle.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long a server may take to listen, on a machine that builds beside it.
const START: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);
/// The ports that servers get.
const LOWEST: u16 = 20_000;
const RANGE: u32 = 12_000;
/// Ports between those of one process and of the next.
const STRIDE: u32 = 97;

/// A running server.
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a server that logs to a file.
    pub(crate) fn start(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file =
            std::fs::File::create(&log).with_context(|| format!("cannot write `{}`", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = command
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            child,
            name: name.to_owned(),
            log,
        })
    }

    /// Waits until it listens on a port.
    pub(crate) async fn listens(&mut self, port: u16) -> Result<()> {
        let waiting = async {
            loop {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                    return Ok(());
                }
                if let Some(status) = self.child.try_wait()? {
                    bail!("{} ended with {status}: {}", self.name, self.told());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(START, waiting).await {
            Ok(up) => up,
            Err(_) => bail!(
                "{} does not listen on {port} after {START:?}: {}",
                self.name,
                self.told()
            ),
        }
    }

    /// Ends it.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("cannot end {}", self.name))
    }

    fn told(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Ports that are free now, each given once by this process. They lie below those that the system gives to
/// connections, so that none is taken before its server listens.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut ports = [0; N];
    for port in &mut ports {
        let mut candidates = (0..RANGE).map(|_| {
            let nth = std::process::id().wrapping_mul(STRIDE);
            let nth = nth.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            LOWEST + (nth % RANGE) as u16
        });
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        *port = candidates.find(free).context("no free port")?;
    }
    Ok(ports)
}
