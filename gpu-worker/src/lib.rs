//! Tidegate's worker: a process beside the host that trains models and serves them.
//!
//! It dials the host ([`host`]), leases jobs one at a time and runs them ([`jobs`]), knows one kind of job, which
//! trains a two-tower ranker ([`train`]) and exports it ([`onnx`]), and serves models to the host ([`inference`]).
//! It never sees the host's state: objects under a lease are all it reads and writes.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod devices;
pub mod host;
pub mod inference;
pub mod jobs;
pub mod onnx;
pub mod settings;
pub mod train;

use std::sync::Arc;

use anyhow::Context;
use tidegate_trace::{Exporter, Spans, Tuning};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::server::TcpIncoming;

use host::Host;
use inference::model::Limits;
use inference::service::InferenceService;
use inference::store::ModelStore;
use settings::Settings;

/// Serves inference and works on jobs until `stop` turns true.
pub async fn run(settings: Settings, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let host = Host::new(&settings.host, &settings.token)?;
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen for inference on `{}`", settings.listen))?;
    let inference = listener.local_addr()?;
    let limits = Limits {
        threads: usize::from(settings.ort_threads),
        ..Limits::default()
    };
    let (exporter, spans) = match settings.otlp_endpoint {
        Some(endpoint) => {
            let (exporter, spans) = Exporter::start(endpoint, Tuning::default(), "tidegate-worker");
            (Some(exporter), spans)
        }
        None => (None, Spans::default()),
    };
    let service = InferenceService::new(Arc::new(ModelStore::new(limits)), host.clone(), spans.clone());
    let name = settings
        .name
        .unwrap_or_else(|| format!("worker-{}", std::process::id()));
    let mut stopping = stop.clone();
    let stopped = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let serve = tonic::transport::Server::builder()
        .add_service(service.into_server())
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stopped);
    let serving = tokio::spawn(serve);
    jobs::work(host, name, inference, spans, stop).await;
    serving.abort();
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    Ok(())
}
