//! The three servers together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tidegate_cloud::{Endpoints, Settings};
use tokio::process::Command;
use tokio::sync::{Mutex, MutexGuard};

use crate::outside::Outside;
use crate::process::{Process, free_ports};
use crate::proxy::{Proxy, Weather};

/// Ways to the servers; they end with this.
pub struct Ways<'s> {
    servers: &'s Servers,
    endpoints: Endpoints,
    _proxies: Vec<Proxy>,
}

impl Ways<'_> {
    /// A store that is reached by them.
    pub fn settings(&self, name: &str) -> Settings {
        Settings {
            endpoints: self.endpoints.clone(),
            ..self.servers.settings(name)
        }
    }
}

/// Where the set-up put the servers.
const PLACE: &str = "TIDEGATE_CLOUD";

/// One test at a time has servers: they are large.
static TURN: Mutex<()> = Mutex::const_new(());

/// Servers with nothing in them; they end with this.
pub struct Servers {
    endpoints: Endpoints,
    home: PathBuf,
    sqs_port: u16,
    sqs: Process,
    _others: [Process; 2],
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Servers {
    /// Starts them, and waits until they listen.
    pub async fn start() -> Result<Self> {
        let home = std::env::var_os(PLACE).map(PathBuf::from);
        let home = home.with_context(|| format!("`{PLACE}` is not set; run `cargo xtask test`"))?;
        let turn = TURN.lock().await;
        let folder = tempfile::Builder::new().prefix("tidegate-cloud-").tempdir()?;
        let [dynamodb, s3, sqs_port] = free_ports()?;
        let mut others = [
            Process::start(
                "dynamodb",
                dynamodb_local(&home, dynamodb, folder.path()),
                folder.path(),
            )?,
            Process::start("s3", seaweed(&home, s3, folder.path())?, folder.path())?,
        ];
        let mut sqs = Process::start("sqs", moto(&home, sqs_port), folder.path())?;
        for (process, port) in others.iter_mut().zip([dynamodb, s3]) {
            process.listens(port).await?;
        }
        sqs.listens(sqs_port).await?;
        let at = |port| Some(format!("http://127.0.0.1:{port}"));
        Ok(Self {
            endpoints: Endpoints {
                dynamodb: at(dynamodb),
                s3: at(s3),
                sqs: at(sqs_port),
            },
            home,
            sqs_port,
            sqs,
            _others: others,
            folder,
            _turn: turn,
        })
    }

    /// Ends SQS, with all that is in it.
    pub async fn stop_sqs(&mut self) -> Result<()> {
        self.sqs.stop().await
    }

    /// Starts SQS again, empty.
    pub async fn start_sqs(&mut self) -> Result<()> {
        self.sqs = Process::start("sqs", moto(&self.home, self.sqs_port), self.folder.path())?;
        self.sqs.listens(self.sqs_port).await
    }

    /// Buckets and queues of others, beside the store's own queues.
    pub fn outside(&self) -> Outside {
        Outside::new(&format!("http://127.0.0.1:{}", self.sqs_port))
    }

    /// A store on them by this name; one name is one store.
    pub fn settings(&self, name: &str) -> Settings {
        Settings {
            region: Some("us-east-1".into()),
            endpoints: self.endpoints.clone(),
            ..Settings::new(name)
        }
    }

    /// Ways to them on which calls get lost.
    pub async fn ways(&self, weather: Arc<Weather>) -> Result<Ways<'_>> {
        let of = &self.endpoints;
        let mut proxies = Vec::new();
        for server in [&of.dynamodb, &of.s3, &of.sqs] {
            let server = server.as_deref().context("a server without an address")?;
            proxies.push(Proxy::start(server, weather.clone()).await?);
        }
        let at = |nth: usize| proxies.get(nth).map(|proxy| proxy.address.clone());
        Ok(Ways {
            endpoints: Endpoints {
                dynamodb: at(0),
                s3: at(1),
                sqs: at(2),
            },
            servers: self,
            _proxies: proxies,
        })
    }

    /// The configuration of a host whose store has this name.
    pub fn config(&self, name: &str, visibility: Duration) -> String {
        let address = |endpoint: &Option<String>| endpoint.clone().unwrap_or_default();
        format!(
            "[store]\nkind = \"aws\"\ntable = \"{name}\"\nbucket = \"{name}\"\nqueues = \"{name}-\"\n\
             region = \"us-east-1\"\nvisibility = \"{}s\"\ndynamodb = \"{}\"\ns3 = \"{}\"\nsqs = \"{}\"\n\
             [worker]\nstart = false\n",
            visibility.as_secs(),
            address(&self.endpoints.dynamodb),
            address(&self.endpoints.s3),
            address(&self.endpoints.sqs),
        )
    }
}

fn dynamodb_local(home: &Path, port: u16, folder: &Path) -> Command {
    let home = home.join("dynamodb");
    let mut java = Command::new("java");
    java.current_dir(folder);
    java.arg(format!(
        "-Djava.library.path={}",
        home.join("DynamoDBLocal_lib").display()
    ));
    java.arg("-jar").arg(home.join("DynamoDBLocal.jar"));
    java.args([
        "-inMemory",
        "-sharedDb",
        "-disableTelemetry",
        "-port",
        &port.to_string(),
    ]);
    java
}

fn seaweed(home: &Path, port: u16, folder: &Path) -> Result<Command> {
    let data = folder.join("seaweed");
    std::fs::create_dir_all(&data)?;
    let ports: [u16; 7] = free_ports()?;
    let names = [
        "-master.port",
        "-master.port.grpc",
        "-volume.port",
        "-volume.port.grpc",
        "-filer.port",
        "-filer.port.grpc",
        "-s3.port.grpc",
    ];
    let mut weed = Command::new(home.join("python/bin/weed"));
    weed.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]);
    weed.args(["-volume.max=100", "-master.volumeSizeLimitMB=64"]);
    // They would listen on ports of their own that another test's servers have.
    weed.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
    weed.arg(format!("-s3.port={port}"));
    weed.arg(format!("-dir={}", data.display()));
    weed.args(
        names
            .iter()
            .zip(ports)
            .map(|(name, port)| format!("{name}={port}")),
    );
    Ok(weed)
}

fn moto(home: &Path, port: u16) -> Command {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", home.join("python"));
    python.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    python
}
