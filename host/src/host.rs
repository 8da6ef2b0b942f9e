//! The whole platform in one process: put together at the start, taken apart in order at the end.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use rustls::ServerConfig;
use serde_json::json;
use tidegate_cloud::Cloud;
use tidegate_runtime::jobs::{CHECKPOINTS, Limits};
use tidegate_runtime::platform::BUCKETS;
use tidegate_runtime::store::{Store, StoreError};
use tidegate_runtime::{Platform, PlatformConfig, Traffic};
use tidegate_tls::{Clients, Watched};
use tidegate_trace::{Exporter, Spans};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::Faces;
use crate::api::gateway::Gateway;
use crate::api::metrics::HostMetrics;
use crate::api::oip::{self, Grpc};
use crate::api::s3::{self, S3Face};
use crate::api::worker::Credentials;
use crate::config::{Config, OtlpConfig, StoreConfig};
use crate::inference::{Patience, Trust, WorkerPool};
use crate::models::rollout;
use crate::notices::Notices;
use crate::recorder::Recorder;
use crate::server::{self, Bounds, Handler};
use crate::store::{self, Opened};
use crate::tls;
use crate::watch::Watch;
use crate::worker::{self, Supervisor, Surroundings};

/// Buckets that are there from the first start.
const FIRST_BUCKETS: [&str; 3] = ["data", "models", CHECKPOINTS];
/// How often it is looked whether there is something to do for a worker that ends when there is not.
const LOOK: Duration = Duration::from_millis(500);
/// How long open requests may take to end after everything else has.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// A host that runs.
pub struct Host {
    faces: Faces,
    gateway: SocketAddr,
    s3: SocketAddr,
    inference: SocketAddr,
    certificate: PathBuf,
    servers: JoinSet<()>,
    stop_servers: CancellationToken,
    worker: Option<tokio::task::JoinHandle<()>>,
    stop_worker: CancellationToken,
    exporter: Option<Exporter>,
    store: watch::Receiver<Option<StoreError>>,
    shared: Option<Arc<Cloud>>,
}

impl Host {
    /// Starts everything, and deploys `manifest`.
    pub async fn start(config: Config, manifest: Option<&Path>) -> Result<Self> {
        let mut config = config;
        config.data_dir = std::path::absolute(&config.data_dir)?;
        make_folder(&config.data_dir)?;
        let identity = tls::find_or_make(&config.data_dir.join("tls"))?;
        let tls = tidegate_tls::server(identity.clone(), Clients::Anyone)?;
        let asking = match &config.worker.tls {
            None => tls.clone(),
            Some(own) => tidegate_tls::server(identity.clone(), Clients::MayShow(own.authorities.clone()))?,
        };
        let gateway = listen(config.gateway.listen, "the gateway", "--port 0").await?;
        let s3 = listen(config.s3.listen, "S3", "--s3-port 0").await?;
        let inference = listen(config.inference.listen, "inference", "--inference-port 0").await?;
        let (exporter, spans) = start_export(&config.otlp);
        let Opened {
            store,
            failure,
            shared,
        } = store::open(&config).await?;
        let metrics = HostMetrics::default();
        let metrics = match &shared {
            Some(cloud) => metrics.with_calls(cloud.calls()),
            None => metrics,
        };
        let platform = platform_config(&config, &spans);
        let faces = faces(config, platform, store, Arc::new(metrics)).await?;
        make_buckets(&faces).await?;
        if faces.config.store.is_embedded() {
            // Nobody else is on this store: whose host is not there any more is not there either.
            faces.platform.jobs().give_orphans_back().await?;
        }
        let mut host = Self {
            gateway: gateway.local_addr()?,
            s3: s3.local_addr()?,
            inference: inference.local_addr()?,
            certificate: identity.certificate,
            servers: JoinSet::new(),
            stop_servers: CancellationToken::new(),
            worker: None,
            stop_worker: CancellationToken::new(),
            exporter,
            store: failure,
            shared,
            faces,
        };
        host.serve([gateway, s3, inference], &asking, &tls);
        host.look_after_models();
        host.follow_notices().await?;
        if let Some(manifest) = manifest {
            host.deploy(manifest).await?;
        }
        host.start_worker();
        Ok(host)
    }

    /// Serves all faces; `asking` is for the port where workers show their certificates.
    fn serve(
        &mut self,
        [gateway, s3, inference]: [TcpListener; 3],
        asking: &Watched<ServerConfig>,
        tls: &Watched<ServerConfig>,
    ) {
        let (config, faces) = (&self.faces.config, self.faces.clone());
        let (most, most_s3) = (config.gateway.max_connections, config.s3.max_connections);
        self.serve_at(gateway, asking, most, Gateway::new(faces.clone()));
        self.serve_at(s3, tls, most_s3, S3Face::new(faces.clone()));
        self.serve_at(inference, tls, most, Grpc::new(faces));
    }

    fn serve_at<H: Handler>(
        &mut self,
        listener: TcpListener,
        tls: &Watched<ServerConfig>,
        connections: usize,
        handler: H,
    ) {
        let config = &self.faces.config.gateway;
        let bounds = Bounds {
            connections,
            head: config.head_timeout,
            write: config.write_timeout,
            stop: LAST_REQUESTS,
        };
        let stop = self.stop_servers.clone();
        let serving = server::serve(listener, tls.clone(), bounds, stop, Arc::new(handler));
        self.servers.spawn(serving);
    }

    /// Looks after the workers that answer inference, whichever host they turn to, and the rollouts of models.
    fn look_after_models(&mut self) {
        let faces = self.faces.clone();
        self.servers.spawn(async move {
            let (platform, workers) = (&faces.platform, &faces.workers);
            let all = futures::future::join3(
                workers.watch(),
                workers.share(platform.jobs()),
                rollout::watch(platform, workers),
            );
            faces.stopping.run_until_cancelled(all).await;
        });
    }

    /// Follows the notices of buckets of others, where there are any.
    async fn follow_notices(&mut self) -> Result<()> {
        let Some(notices) = Notices::of(&self.faces, self.shared.as_ref()) else {
            return Ok(());
        };
        notices.attach().await?;
        for queue in notices.queues() {
            let (notices, stopping) = (notices.clone(), self.faces.stopping.clone());
            self.servers.spawn(async move {
                stopping.run_until_cancelled(notices.follow(queue)).await;
            });
        }
        Ok(())
    }

    async fn deploy(&self, manifest: &Path) -> Result<()> {
        let manifest = std::path::absolute(manifest)?;
        let deployed = self.faces.platform.deploy(&manifest, Traffic::Changed).await?;
        tracing::info!(
            app = deployed.app,
            functions = deployed.functions.len(),
            "deployed"
        );
        Ok(())
    }

    /// Deploys a manifest again whenever it or one of its components changes.
    pub fn watch(&mut self, manifest: &Path) -> Result<()> {
        let components = self.faces.config.components.clone();
        let watch = Watch::new(
            self.faces.platform.clone(),
            &std::path::absolute(manifest)?,
            components,
        );
        self.servers.spawn(watch.run(self.faces.stopping.clone()));
        Ok(())
    }

    fn start_worker(&mut self) {
        let config = &self.faces.config.worker;
        if !config.start {
            return;
        }
        let program = match worker::find(config.program.as_deref()) {
            Ok(program) => program,
            Err(error) => return tracing::warn!("{error:#}"),
        };
        let surroundings = Surroundings {
            host: format!("http://{}", self.local(self.gateway)),
            token: self.faces.credentials.child_token().to_owned(),
            onnxruntime: config.onnxruntime.clone(),
            execution_providers: config.execution_providers.join(","),
            commands: config.commands.clone(),
            model_memory: self.faces.config.inference.memory,
            max_request: self.faces.config.inference.max_request,
            collector: self.faces.config.otlp.endpoint.clone(),
        };
        let supervisor = Supervisor::new(program, surroundings, config.ends_idle(), self.faces.clone());
        self.worker = Some(tokio::spawn(supervisor.run(self.stop_worker.clone())));
    }

    /// An address as a client on this machine reaches it.
    fn local(&self, bound: SocketAddr) -> SocketAddr {
        match bound {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
                (std::net::Ipv4Addr::LOCALHOST, v4.port()).into()
            }
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
                (std::net::Ipv6Addr::LOCALHOST, v6.port()).into()
            }
            other => other,
        }
    }

    /// Where the gateway listens.
    pub fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// Where the S3 endpoint listens.
    pub fn s3(&self) -> SocketAddr {
        self.s3
    }

    /// The certificate (PEM) that clients trust.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The one line that tells a program what was bound.
    pub fn announce(&self) -> Result<()> {
        let (gateway, s3) = (self.local(self.gateway), self.local(self.s3));
        let inference = self.local(self.inference);
        let line = json!({
            "event": "ready",
            "gateway": format!("http://{gateway}"),
            "gateway_tls": format!("https://{gateway}"),
            "s3": format!("http://{s3}"),
            "inference": format!("http://{inference}"),
            "data_dir": self.faces.config.data_dir,
            "ca": self.certificate,
            "pid": std::process::id(),
        });
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .context("cannot write to the standard output")
    }

    /// Waits until the store takes no write any more: the host is of no use then, and has to be started again.
    pub async fn failed(&self) -> StoreError {
        let mut store = self.store.clone();
        let failed = store.wait_for(Option::is_some).await;
        let failed = failed.ok().and_then(|failed| failed.clone());
        failed.unwrap_or_else(|| StoreError("the store is closed".into()))
    }

    /// Lets what runs come to its end, within the configured time, and stops.
    pub async fn drain(mut self) {
        let deadline = self.faces.config.drain;
        tracing::info!(?deadline, "draining");
        self.faces.stopping.cancel();
        self.faces.platform.drain(deadline).await;
        self.stop_worker.cancel();
        if let Some(worker) = self.worker.take() {
            let _it_panicked = worker.await;
        }
        self.stop_servers.cancel();
        while self.servers.join_next().await.is_some() {}
        self.faces.recorder.flush().await;
        if let Some(shared) = &self.shared {
            shared.close().await;
        }
        if let Some(exporter) = self.exporter.take() {
            exporter.finish().await;
        }
        tracing::info!("drained");
    }
}

/// Exports spans where there is a collector to take them.
fn start_export(config: &OtlpConfig) -> (Option<Exporter>, Spans) {
    match &config.endpoint {
        None => (None, Spans::default()),
        Some(endpoint) => {
            let (exporter, spans) = Exporter::start(endpoint.clone(), config.tuning, "tidegate");
            (Some(exporter), spans)
        }
    }
}

/// What the configuration says to the platform of a host.
pub(crate) fn platform_config(config: &Config, spans: &Spans) -> PlatformConfig {
    PlatformConfig {
        component_dirs: config.components.clone(),
        places: config.invocations.clone(),
        jobs: Limits {
            // Pools of workers grow and shrink by the length of these queues.
            told_in_queues: matches!(config.store, StoreConfig::Aws(_)),
            ..config.jobs.clone()
        },
        requests: config.requests,
        spans: spans.clone(),
        shared: matches!(config.store, StoreConfig::Aws(_)),
        attached: config.store.attached().into_keys().collect(),
        handles: config.store.handles(),
        ..PlatformConfig::new(config.data_dir.clone())
    }
}

/// Opens the platform, and what its faces work on.
pub(crate) async fn faces(
    config: Config,
    platform: PlatformConfig,
    store: Arc<dyn Store>,
    metrics: Arc<HostMetrics>,
) -> Result<Faces> {
    let spans = platform.spans.clone();
    let patience = Patience {
        infer: config.worker.infer_timeout,
        worker: config.worker.infer_wait,
    };
    let (models, tls) = (config.inference.models.clone(), config.worker.tls.clone());
    let trust = tls.map(Trust::new).transpose()?;
    let workers = WorkerPool::new(
        store.clone(),
        patience,
        models,
        trust,
        metrics.clone(),
        spans.clone(),
    );
    let platform = Platform::open(platform, store, workers.clone()).await?;
    Ok(Faces {
        inferences: Arc::new(Semaphore::new(config.inference.max_requests)),
        bodies: Arc::new(Semaphore::new(oip::units(config.inference.max_bodies) as usize)),
        recorder: Recorder::start(platform.clone(), config.recorder, metrics.clone()),
        usages: Arc::default(),
        credentials: Arc::new(Credentials::new(&config.worker)),
        backups: Arc::new(Semaphore::new(1)),
        stopping: CancellationToken::new(),
        config: Arc::new(config),
        platform,
        workers,
        metrics,
        spans,
    })
}

/// Makes the buckets that are there from the first start.
pub(crate) async fn make_buckets(faces: &Faces) -> Result<()> {
    let store = faces.platform.store().as_ref();
    for bucket in FIRST_BUCKETS {
        if store.get(BUCKETS, bucket).await?.is_none() {
            s3::create_bucket(store, bucket).await?;
        }
    }
    match s3::give_up_old_uploads(store, faces.config.s3.upload_lifetime).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "multipart uploads that nobody completed are given up"),
        Err(error) => tracing::warn!(%error, "old multipart uploads are not given up"),
    }
    Ok(())
}

async fn listen(address: SocketAddr, what: &str, way_out: &str) -> Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen on `{address}` for {what}; `{way_out}` picks a free port"))
}

/// Makes the data folder, which is nobody else's to read.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make the data folder `{}`", folder.display()))
}

impl Faces {
    /// Whether a job waits for a worker; where the store does not tell, one may.
    async fn a_job_waits(&self) -> bool {
        self.platform.jobs().any_waits().await.unwrap_or(true)
    }
}

#[async_trait]
impl worker::Watcher for Faces {
    fn started(&self) {
        self.metrics.worker_starts.inc();
    }

    async fn ended(&self, told: bool) {
        self.workers.child_left();
        self.credentials.child_ended(self.platform.jobs(), told).await;
    }

    async fn wanted(&self) {
        while !self.workers.is_waited_for() && !self.a_job_waits().await {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn idle(&self, time: Duration) {
        let mut since = Instant::now();
        while since.elapsed() < time {
            tokio::time::sleep(LOOK.min(time)).await;
            let jobs = self.platform.jobs();
            if self.a_job_waits().await || self.credentials.child_works(jobs).await {
                since = Instant::now();
            }
            since = since.max(self.workers.last_asked());
        }
    }
}
