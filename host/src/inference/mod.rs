//! Inference by workers: a reference becomes a registered version, a version is asked for by gRPC.
//!
//! The worker speaks the Open Inference Protocol v2, so any server that does can stand in for it. A model it
//! does not know is loaded on the first request that wants it.

mod asked;
mod resolve;
mod wire;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tidegate_runtime::inference::{InferError, InferResponse, Inference, Tensor};
use tidegate_runtime::store::Store;
use tidegate_trace::Spans;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::api::metrics::HostMetrics;
use asked::{Asked, traced};
use resolve::{Resolved, Resolver};
use wire::open_inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use wire::open_inference::{ModelInferRequest, ModelInferResponse};

type Client = GrpcInferenceServiceClient<Channel>;

/// Bytes of a response at most.
const MESSAGE: usize = 64 << 20;
/// Bytes that may be under way before the receiver has said that it takes more.
const WINDOW: u32 = 8 << 20;
/// Objects that workers were told to load and may therefore read; the oldest are forgotten.
const READABLE: usize = 4096;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// One inference, loading of the model included.
    pub infer: Duration,
    /// Until a worker is up.
    pub worker: Duration,
}

/// The workers that answer inference requests.
pub struct WorkerPool {
    resolver: Resolver,
    client: watch::Sender<Option<Client>>,
    loading: tokio::sync::Mutex<()>,
    readable: Mutex<BTreeSet<(String, String)>>,
    patience: Patience,
    metrics: Arc<HostMetrics>,
    spans: Spans,
}

impl WorkerPool {
    /// A pool that no worker has joined yet; models are looked up in `store`.
    pub fn new(
        store: Arc<dyn Store>,
        patience: Patience,
        metrics: Arc<HostMetrics>,
        spans: Spans,
    ) -> Arc<Self> {
        Arc::new(Self {
            resolver: Resolver::new(store),
            client: watch::Sender::new(None),
            loading: tokio::sync::Mutex::new(()),
            readable: Mutex::default(),
            patience,
            metrics,
            spans,
        })
    }

    /// A worker answers at `address` from now on; a later one takes its place.
    pub fn join(&self, address: &str) -> Result<(), String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| format!("`{address}` is no address for inference: {error}"))?;
        let channel = endpoint
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(2))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .buffer_size(4096)
            .connect_lazy();
        let client = Client::new(channel)
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE);
        self.client.send_replace(Some(client));
        self.metrics.worker_ready.set(1);
        Ok(())
    }

    /// The worker is gone.
    pub fn leave(&self) {
        self.client.send_replace(None);
        self.metrics.worker_ready.set(0);
    }

    /// Whether a worker has joined.
    pub fn is_ready(&self) -> bool {
        self.client.borrow().is_some()
    }

    /// Whether workers were told to load this object, and so may read it.
    pub fn may_read(&self, bucket: &str, key: &str) -> bool {
        self.readable().contains(&(bucket.to_owned(), key.to_owned()))
    }

    fn readable(&self) -> std::sync::MutexGuard<'_, BTreeSet<(String, String)>> {
        self.readable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn client(&self) -> Result<Client, InferError> {
        let mut joined = self.client.subscribe();
        let waiting = tokio::time::timeout(self.patience.worker, joined.wait_for(Option::is_some)).await;
        let client = waiting
            .ok()
            .and_then(Result::ok)
            .and_then(|client| client.clone());
        client.ok_or_else(|| {
            InferError::Unavailable("no worker is connected that answers inference requests".into())
        })
    }

    async fn ask(&self, model: &str, inputs: Vec<Tensor>) -> Result<InferResponse, InferError> {
        let resolved = self.resolver.resolve(model).await?;
        let mut client = self.client().await?;
        let request = wire::request(&resolved, inputs);
        let answer = match client.model_infer(traced(request.clone())).await {
            Err(status) if status.code() == Code::NotFound => {
                self.load_and_ask(&mut client, &resolved, request).await?
            }
            answer => answer.map_err(|status| failure(&resolved, &status))?.into_inner(),
        };
        wire::response(&resolved, answer)
    }

    /// Loads a model that the worker does not know. Requests that come meanwhile wait for the one load.
    async fn load_and_ask(
        &self,
        client: &mut Client,
        resolved: &Resolved,
        request: ModelInferRequest,
    ) -> Result<ModelInferResponse, InferError> {
        let _one_at_a_time = self.loading.lock().await;
        match client.model_infer(traced(request.clone())).await {
            Err(status) if status.code() == Code::NotFound => {}
            answer => {
                return answer
                    .map(tonic::Response::into_inner)
                    .map_err(|status| failure(resolved, &status));
            }
        }
        self.allow(resolved);
        let load = wire::load(resolved);
        client
            .repository_model_load(traced(load))
            .await
            .map_err(|status| failure(resolved, &status))?;
        let answer = client.model_infer(traced(request)).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| failure(resolved, &status))
    }

    fn allow(&self, resolved: &Resolved) {
        let mut readable = self.readable();
        if readable.len() >= READABLE {
            readable.pop_first();
        }
        readable.insert((resolved.bucket.clone(), resolved.key.clone()));
    }
}

#[async_trait]
impl Inference for WorkerPool {
    async fn infer(&self, model: &str, inputs: Vec<Tensor>) -> Result<InferResponse, InferError> {
        let started = Instant::now();
        let limit = self.patience.infer.max(self.patience.worker);
        let asked = Asked::new(model);
        let asking = asked.follow(self.ask(model, inputs));
        let answer = match tokio::time::timeout(limit, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(InferError::Unavailable(format!(
                "model `{model}` did not answer within {limit:?}"
            ))),
        };
        let outcome = match &answer {
            Ok(_) => "done",
            Err(InferError::NotFound(_)) => "not_found",
            Err(InferError::Invalid(_)) => "invalid",
            Err(InferError::Unavailable(_)) => "unavailable",
        };
        self.metrics.inferred(outcome, started.elapsed().as_secs_f64());
        asked.answered(&self.spans, outcome, &answer);
        answer
    }
}

fn failure(resolved: &Resolved, status: &Status) -> InferError {
    let text = format!(
        "model `{}` version `{}`: {}",
        resolved.name,
        resolved.version,
        status.message()
    );
    match status.code() {
        Code::NotFound => InferError::NotFound(text),
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => InferError::Invalid(text),
        _ => InferError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests;
