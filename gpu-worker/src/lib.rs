//! Tidegate's worker: a process beside the host that trains models and serves them.
//!
//! It dials the host ([`host`]), tells whether it is known there ([`health`]), leases jobs one at a time and runs them ([`jobs`]):
//! they train models ([`train`]), export them ([`onnx`]), run a program that the operator allows ([`command`]), predict
//! whole files ([`predict`]), and make INT8 variants of models ([`quantise`]). It also serves models to the host ([`inference`]).
//! It tells the host what it uses ([`usage`]), and never sees the host's state: objects under a lease are all it reads and writes.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod command;
pub mod devices;
pub mod health;
pub mod host;
pub mod inference;
pub mod jobs;
pub mod onnx;
pub mod predict;
pub mod quantise;
pub mod settings;
pub mod train;
pub mod usage;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use tidegate_tls::{Clients, Watched};
use tidegate_trace::{Endpoint, Exporter, Spans, Tuning};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;

use health::Health;
use host::Host;
use inference::incoming::certified;
use inference::model::Limits;
use inference::proto::grpc_inference_service_server::GrpcInferenceServiceServer;
use inference::provider::Execution;
use inference::service::InferenceService;
use inference::store::ModelStore;
use jobs::Worker;
use settings::{Part, Settings};

/// Serves inference and works on jobs until `stop` turns true.
pub async fn run(settings: Settings, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let (identity, authorities) = settings.tls().unzip();
    let trusted = settings.host_ca.clone().or_else(|| authorities.clone());
    let host = Host::new(&settings.host, &settings.token, trusted, identity.clone())?;
    let health = Health::default();
    let mut servers = JoinSet::new();
    if let Some(address) = settings.health {
        let listener = listen(address, "questions after its health").await?;
        tracing::info!("health is told on http://{}", listener.local_addr()?);
        servers.spawn(health.clone().answer(listener));
    }
    let (exporter, spans) = start_export(settings.otlp_endpoint.clone());
    let mut inference = None;
    if settings.does(Part::Inference) {
        let tls = identity.zip(authorities);
        let tls = tls.map(|(own, of)| tidegate_tls::server(own, Clients::MustShow(of)));
        let tls = tls.transpose()?;
        refuse_plain_text(settings.listen, tls.is_some())?;
        let listener = listen(settings.listen, "inference").await?;
        inference = Some(listener.local_addr()?);
        let limits = Limits {
            execution: Execution {
                threads: usize::from(settings.ort_threads),
                providers: settings.execution_providers.clone(),
            },
            memory: settings.model_memory,
            ..Limits::default()
        };
        let service = InferenceService::new(Arc::new(ModelStore::new(limits)), host.clone(), spans.clone());
        let service = service.into_server(settings.max_request);
        servers.spawn(serve_inference(service, listener, tls, stop.clone()));
    }
    let worker = Worker {
        kinds: match settings.does(Part::Jobs) {
            true => jobs::kinds(&settings.commands),
            false => Vec::new(),
        },
        commands: Arc::new(settings.commands),
        name: settings
            .name
            .unwrap_or_else(|| format!("worker-{:016x}", rand::random::<u64>())),
        host,
        inference,
        health,
        spans,
    };
    servers.spawn(usage::tell(worker.host.clone(), worker.name.clone()));
    worker.work(stop).await;
    drop(servers);
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    Ok(())
}

async fn listen(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen for {what} on `{address}`"))
}

/// Whoever reaches a worker without TLS may load models and ask them: that is for this machine only.
fn refuse_plain_text(address: SocketAddr, tls: bool) -> anyhow::Result<()> {
    anyhow::ensure!(
        tls || address.ip().is_loopback(),
        "`--listen` is `{address}`; without `--cert-file`, `--key-file` and `--ca-file` only an address of this machine's \
         own is allowed, such as `127.0.0.1:0`"
    );
    Ok(())
}

/// Exports spans where there is a collector to take them.
fn start_export(collector: Option<Endpoint>) -> (Option<Exporter>, Spans) {
    match collector {
        None => (None, Spans::default()),
        Some(endpoint) => {
            let (exporter, spans) = Exporter::start(endpoint, Tuning::default(), "tidegate-worker");
            (Some(exporter), spans)
        }
    }
}

async fn serve_inference(
    service: GrpcInferenceServiceServer<InferenceService>,
    listener: TcpListener,
    tls: Option<Watched<ServerConfig>>,
    mut stop: watch::Receiver<bool>,
) {
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let server = tonic::transport::Server::builder().add_service(service);
    let served = match tls {
        Some(tls) => {
            let incoming = certified(listener, tls);
            server.serve_with_incoming_shutdown(incoming, stopped).await
        }
        None => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            server.serve_with_incoming_shutdown(incoming, stopped).await
        }
    };
    if let Err(error) = served {
        tracing::error!(%error, "inference is not served any more");
    }
}
