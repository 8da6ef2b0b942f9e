//! Inference by workers: a reference becomes a registered version, a version is asked for by gRPC.
//!
//! The worker speaks the Open Inference Protocol v2, so any server that does can stand in for it. A model it
//! does not know is loaded on the first request that wants it.

mod asked;
mod failure;
mod resolve;
mod wire;

/// The protocol's messages, client and server.
#[allow(missing_docs, clippy::all)]
pub mod open_inference {
    tonic::include_proto!("inference");
}

use std::collections::{BTreeMap, BTreeSet};
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
use crate::config::Batching;
use asked::{Asked, traced};
pub use failure::Failure;
use open_inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use open_inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelStatistics,
    ModelStatisticsRequest, RepositoryIndexRequest, RepositoryModelUnloadRequest,
};
use resolve::{Resolved, Resolver};

type Client = GrpcInferenceServiceClient<Channel>;

/// Bytes of a message between host and worker at most; what clients may send is bounded by the configuration.
const MESSAGE: usize = 1 << 30;
/// Bytes that may be under way before the receiver has said that it takes more.
const WINDOW: u32 = 8 << 20;
/// How long the worker may take to tell what its models took.
const STATISTICS: Duration = Duration::from_secs(1);
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
    /// Registered models that the operator took out of service here.
    withdrawn: Mutex<BTreeSet<String>>,
    /// Of models by their names.
    batching: BTreeMap<String, Batching>,
    patience: Patience,
    metrics: Arc<HostMetrics>,
    spans: Spans,
}

impl WorkerPool {
    /// A pool that no worker has joined yet; models are looked up in `store`.
    pub fn new(
        store: Arc<dyn Store>,
        patience: Patience,
        batching: BTreeMap<String, Batching>,
        metrics: Arc<HostMetrics>,
        spans: Spans,
    ) -> Arc<Self> {
        Arc::new(Self {
            resolver: Resolver::new(store),
            client: watch::Sender::new(None),
            loading: tokio::sync::Mutex::new(()),
            readable: Mutex::default(),
            withdrawn: Mutex::default(),
            patience,
            batching,
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

    fn withdrawn(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn client(&self) -> Result<Client, Failure> {
        let mut joined = self.client.subscribe();
        let waiting = tokio::time::timeout(self.patience.worker, joined.wait_for(Option::is_some)).await;
        let client = waiting
            .ok()
            .and_then(Result::ok)
            .and_then(|client| client.clone());
        client.ok_or_else(|| {
            Failure::Unavailable("no worker is connected that answers inference requests".into())
        })
    }

    /// Asks a model by a reference such as `ranker` or `ranker@candidate`, for at most `patience` and the configured
    /// time. The answer tells the version that gave it, and has raw contents.
    pub async fn ask(
        &self,
        model: &str,
        request: ModelInferRequest,
        patience: Option<Duration>,
    ) -> Result<ModelInferResponse, Failure> {
        let (started, asked) = (Instant::now(), Asked::new(model));
        let asking = asked.follow(self.resolve_and_ask(model, request));
        let answer = self.within(patience, model, asking).await;
        let outcome = answer.as_ref().err().map_or("done", Failure::outcome);
        self.metrics.inferred(outcome, started.elapsed().as_secs_f64());
        let told = answer.as_ref().map(|answer| answer.model_version.as_str());
        asked.answered(&self.spans, outcome, told.map_err(ToString::to_string));
        answer
    }

    async fn resolve_and_ask(
        &self,
        model: &str,
        mut request: ModelInferRequest,
    ) -> Result<ModelInferResponse, Failure> {
        let resolved = self.in_service(model).await?;
        request.model_name.clone_from(&resolved.name);
        request.model_version.clone_from(&resolved.version);
        let ask = |mut client: Client| {
            let request = traced(request.clone());
            async move { client.model_infer(request).await }
        };
        let mut answer = self.with_model(&resolved, ask).await?;
        wire::complete(&answer)?;
        answer.model_name.clone_from(&resolved.name);
        answer.model_version.clone_from(&resolved.version);
        Ok(answer)
    }

    /// What a model takes and gives; it is loaded for that.
    pub async fn metadata(&self, model: &str) -> Result<ModelMetadataResponse, Failure> {
        let asking = async {
            let resolved = self.in_service(model).await?;
            let request = ModelMetadataRequest {
                name: resolved.name.clone(),
                version: resolved.version.clone(),
            };
            let ask = |mut client: Client| {
                let request = traced(request.clone());
                async move { client.model_metadata(request).await }
            };
            self.with_model(&resolved, ask).await
        };
        self.within(None, model, asking).await
    }

    /// The names and versions that the worker has loaded; none where there is no worker.
    pub async fn loaded(&self) -> Result<BTreeSet<(String, String)>, Failure> {
        let Some(mut client) = self.client.borrow().clone() else {
            return Ok(BTreeSet::new());
        };
        let asking = async {
            let answer = client.repository_index(traced(RepositoryIndexRequest::default()));
            let answer = answer
                .await
                .map_err(|status| Failure::of(&status, "the worker"))?;
            let models = answer.into_inner().models.into_iter();
            let ready = models.filter(|model| model.state == "READY");
            Ok(ready.map(|model| (model.name, model.version)).collect())
        };
        self.within(None, "the worker", asking).await
    }

    /// What requests of loaded models took, as the worker counts it; nothing where it does not tell at once.
    pub async fn statistics(&self) -> Vec<ModelStatistics> {
        let Some(mut client) = self.client.borrow().clone() else {
            return Vec::new();
        };
        let asking = client.model_statistics(ModelStatisticsRequest::default());
        match tokio::time::timeout(STATISTICS, asking).await {
            Ok(Ok(answer)) => answer.into_inner().model_stats,
            _ => Vec::new(),
        }
    }

    /// Puts a model in service again, if it was taken out, and loads its champion.
    pub async fn load(&self, name: &str) -> Result<(), Failure> {
        self.withdrawn().remove(name);
        self.metadata(name).await.map(drop)
    }

    /// Takes a model out of service on this host: nobody is answered by it until it is loaded again.
    pub async fn unload(&self, name: &str) -> Result<(), Failure> {
        let resolved = self.resolver.resolve(name).await?;
        self.withdrawn().insert(resolved.name.clone());
        let Some(mut client) = self.client.borrow().clone() else {
            return Ok(());
        };
        let request = RepositoryModelUnloadRequest {
            model_name: resolved.name.clone(),
            ..Default::default()
        };
        match client.repository_model_unload(traced(request)).await {
            Err(status) if status.code() != Code::NotFound => Err(resolved.failure(&status)),
            _ => Ok(()),
        }
    }

    /// Whether a model was taken out of service.
    pub fn is_withdrawn(&self, name: &str) -> bool {
        self.withdrawn().contains(name)
    }

    async fn in_service(&self, model: &str) -> Result<Arc<Resolved>, Failure> {
        let resolved = self.resolver.resolve(model).await?;
        if self.is_withdrawn(&resolved.name) {
            return Err(Failure::NotFound(format!(
                "model `{}` is unloaded",
                resolved.name
            )));
        }
        Ok(resolved)
    }

    async fn within<T>(
        &self,
        patience: Option<Duration>,
        model: &str,
        asking: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let most = self.patience.infer.max(self.patience.worker);
        let limit = patience.map_or(most, |patience| patience.min(most));
        let answer = tokio::time::timeout(limit, asking).await;
        answer.unwrap_or_else(|_| {
            let late = format!("model `{model}` did not answer within {limit:?}");
            Err(Failure::Expired(late))
        })
    }

    /// Asks the worker, and once more with the model loaded if it does not know it. Requests that come meanwhile wait
    /// for the one load.
    async fn with_model<T, F>(&self, resolved: &Resolved, ask: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let unknown = |status: &Status| status.code() == Code::NotFound;
        let client = self.client().await?;
        let mut answer = ask(client.clone()).await;
        if answer.as_ref().is_err_and(unknown) {
            let _one_at_a_time = self.loading.lock().await;
            answer = ask(client.clone()).await;
            if answer.as_ref().is_err_and(unknown) {
                self.allow(resolved);
                let load = client
                    .clone()
                    .repository_model_load(traced(wire::load(resolved, self.batching.get(&resolved.name))))
                    .await;
                load.map_err(|status| resolved.failure(&status))?;
                answer = ask(client).await;
            }
        }
        let answer = answer.map(tonic::Response::into_inner);
        answer.map_err(|status| resolved.failure(&status))
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
        let answer = self.ask(model, wire::request(inputs), None).await?;
        wire::response(answer)
    }
}

#[cfg(test)]
mod tests;
