//! Inference by workers: a reference becomes a registered version, a version is asked for by gRPC.
//!
//! Workers speak the Open Inference Protocol v2, so any server that does can stand in for one. A model that the one that is
//! asked does not know is loaded on the first request that wants it. What one worker does not answer another may: an
//! inference can be repeated.

mod asked;
mod failure;
mod load;
mod members;
mod passes;
mod resolve;
mod scores;
mod shadow;
mod statistics;
mod tallies;
mod trust;
mod wire;

/// The protocol's messages, client and server.
#[allow(missing_docs, clippy::all)]
pub mod open_inference {
    tonic::include_proto!("inference");
}

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tidegate_runtime::inference::{InferError, InferResponse, Inference, Tensor};
use tidegate_runtime::jobs::{Jobs, Worker};
use tidegate_runtime::store::{CommitError, Store};
use tidegate_trace::Spans;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use crate::api::metrics::HostMetrics;
use crate::config::ModelConfig;
pub use asked::give_key;
use asked::{Asked, take_key, traced};
pub use failure::Failure;
use load::Load;
use members::{Client, Member, Members, another_may};
use open_inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelStatistics,
    ModelStatisticsRequest, RepositoryIndexRequest, RepositoryModelUnloadRequest,
};
use passes::Passes;
pub use resolve::Resolved;
use resolve::{Resolver, Route};
pub use shadow::ShadowMetrics;
pub use statistics::merged;
pub use tallies::Tallies;
pub use trust::Trust;

/// How long workers may take to tell of their models; what one does not tell by then is left out.
const TELLING: Duration = Duration::from_secs(2);

/// How often it is asked which workers have turned to other hosts: as often as workers tell that they are there.
const SHARED: Duration = Duration::from_secs(20);

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// One inference, loading of the model included.
    pub infer: Duration,
    /// Until a worker is up.
    pub worker: Duration,
}

/// When an answer is not waited for any more.
#[derive(Clone, Copy)]
struct Deadline {
    limit: Duration,
    at: tokio::time::Instant,
}

impl Deadline {
    async fn within<T>(
        self,
        model: &str,
        asking: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let answer = tokio::time::timeout_at(self.at, asking).await;
        answer.unwrap_or_else(|_| {
            let late = format!("model `{model}` did not answer within {:?}", self.limit);
            Err(Failure::Expired(late))
        })
    }
}

/// The workers that answer inference requests.
pub struct WorkerPool {
    /// For what goes on by itself.
    me: Weak<Self>,
    resolver: Resolver,
    members: Members,
    passes: Passes,
    /// Registered models that the operator took out of service here.
    withdrawn: Mutex<BTreeSet<String>>,
    /// When somebody asked for the last time.
    last: Mutex<Instant>,
    tallies: Tallies,
    /// What clients and functions ask.
    load: Load,
    /// The places of copies for shadows.
    shadows: Arc<Semaphore>,
    /// How models are run, by their names.
    models: BTreeMap<String, ModelConfig>,
    patience: Patience,
    metrics: Arc<HostMetrics>,
    spans: Spans,
}

impl WorkerPool {
    /// A pool that no worker has joined yet; models are looked up in `store`. Without `trust` workers are asked without TLS.
    pub fn new(
        store: Arc<dyn Store>,
        patience: Patience,
        models: BTreeMap<String, ModelConfig>,
        trust: Option<Trust>,
        metrics: Arc<HostMetrics>,
        spans: Spans,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            passes: Passes::new(store.clone()),
            resolver: Resolver::new(store),
            members: Members::new(trust),
            withdrawn: Mutex::default(),
            last: Mutex::new(Instant::now()),
            tallies: Tallies::default(),
            load: Load::default(),
            shadows: Arc::new(Semaphore::new(shadow::MOST)),
            patience,
            models,
            metrics,
            spans,
        })
    }

    /// A worker answers at `address` from now on; `child` is the one that ends with the host.
    pub fn join(&self, name: &str, address: &str, child: bool) -> Result<(), String> {
        self.members.join(name, address, child)?;
        self.count();
        Ok(())
    }

    /// The version that a reference stands for, and where its file lies.
    pub async fn locate(&self, reference: &str) -> Result<Arc<Resolved>, Failure> {
        Ok(self.resolver.resolve(reference).await?.main.clone())
    }

    /// Whether a worker may read an object, by the pass that a host of this store gave it with the order to load it.
    pub async fn may_read(&self, pass: &str, bucket: &str, key: &str) -> Result<bool, CommitError> {
        self.passes.fits(pass, bucket, key).await
    }

    /// The worker that ends with the host is gone.
    pub fn child_left(&self) {
        self.members.leave(Member::is_child);
        self.count();
    }

    /// Takes in those that turned to another host of the store, as long as they turn to it.
    pub async fn share(&self, jobs: &Jobs) {
        loop {
            match jobs.workers().await {
                Ok(workers) => workers.iter().for_each(|worker| self.meet(worker)),
                Err(error) => tracing::warn!(%error, "workers of other hosts are not known"),
            }
            tokio::time::sleep(SHARED).await;
        }
    }

    fn meet(&self, worker: &Worker) {
        let Some(address) = &worker.address else {
            return;
        };
        if let Err(reason) = self.join(&worker.name, address, false) {
            tracing::warn!(worker = worker.name, reason, "worker is not asked");
        }
    }

    /// Looks after those who joined: one that is not reached for a while is left out until it joins again.
    pub async fn watch(&self) {
        let left = |member: &Member| {
            tracing::warn!(worker = member.name(), "worker does not answer and is left out");
        };
        self.members.watch(left, || self.count()).await;
    }

    fn count(&self) {
        self.metrics.workers_are(self.members.count() as u64);
    }

    /// Whether a worker has joined.
    pub fn is_ready(&self) -> bool {
        self.members.count() > 0
    }

    /// Whether a request waits until a worker is there.
    pub fn is_waited_for(&self) -> bool {
        self.members.is_waited_for()
    }

    /// When a worker was asked for the last time, which is now as long as one is, or is waited for.
    pub fn last_asked(&self) -> Instant {
        match self.members.is_busy() || self.is_waited_for() {
            true => Instant::now(),
            false => *self.last(),
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests are under way.
    pub fn under_way(&self) -> u64 {
        self.load.under_way()
    }

    /// The workers that inference has use for, where one is to have so many requests under way.
    pub fn wanted(&self, requests: usize) -> u64 {
        self.load.workers(requests)
    }

    /// What is counted of versions that are compared.
    pub fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    fn withdrawn(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a model by a reference such as `ranker` or `ranker@candidate`, for at most `patience` and the configured
    /// time. The answer tells the version that gave it, and has raw contents.
    pub async fn ask(
        &self,
        model: &str,
        request: ModelInferRequest,
        patience: Option<Duration>,
    ) -> Result<ModelInferResponse, Failure> {
        let _under_way = self.load.enter();
        let (started, asked) = (Instant::now(), Asked::new(model));
        let asking = self.route_and_ask(model, request, self.deadline(patience));
        let answer = asked.follow(asking).await;
        let outcome = answer.as_ref().err().map_or("done", Failure::outcome);
        self.metrics.inferred(outcome, started.elapsed().as_secs_f64());
        let told = answer.as_ref().map(|answer| answer.model_version.as_str());
        asked.answered(&self.spans, outcome, told.map_err(ToString::to_string));
        answer
    }

    async fn route_and_ask(
        &self,
        model: &str,
        mut request: ModelInferRequest,
        deadline: Deadline,
    ) -> Result<ModelInferResponse, Failure> {
        let key = take_key(&mut request);
        let route = deadline.within(model, self.in_service(model)).await?;
        let version = route.pick(&key);
        let asked = deadline.within(model, self.ask_version(version, &request)).await;
        if route.is_compared {
            self.tallies.count(version, &asked);
        }
        let (answer, _took) = asked?;
        if let Some(shadow) = &route.shadow {
            self.copy_to(shadow, request, &answer);
        }
        Ok(answer)
    }

    /// Asks a version. The answer comes with how long it took the worker, loading of the model not included.
    async fn ask_version(
        &self,
        version: &Arc<Resolved>,
        request: &ModelInferRequest,
    ) -> Result<(ModelInferResponse, Duration), Failure> {
        let ask = |mut client: Client| {
            let request = traced(ModelInferRequest {
                model_name: version.name.clone(),
                model_version: version.version.clone(),
                ..request.clone()
            });
            async move {
                let since = Instant::now();
                let answer = client.model_infer(request).await?;
                Ok(answer.map(|answer| (answer, since.elapsed())))
            }
        };
        let (mut answer, took) = self.with_model(version, ask).await?;
        wire::complete(&answer)?;
        answer.model_name.clone_from(&version.name);
        answer.model_version.clone_from(&version.version);
        Ok((answer, took))
    }

    /// What a model takes and gives; it is loaded for that.
    pub async fn metadata(&self, model: &str) -> Result<ModelMetadataResponse, Failure> {
        let asking = async {
            let route = self.in_service(model).await?;
            let version = &route.main;
            let request = ModelMetadataRequest {
                name: version.name.clone(),
                version: version.version.clone(),
            };
            let ask = |mut client: Client| {
                let request = traced(request.clone());
                async move { client.model_metadata(request).await }
            };
            self.with_model(version, ask).await
        };
        self.deadline(None).within(model, asking).await
    }

    /// The names and versions that workers have loaded; none where there is no worker.
    pub async fn loaded(&self) -> BTreeSet<(String, String)> {
        let told = self.told(|mut client| async move {
            let answer = client.repository_index(traced(RepositoryIndexRequest::default()));
            Ok(answer.await?.into_inner().models)
        });
        let models = told.await.into_iter().flat_map(|(_, models)| models);
        let ready = models.filter(|model| model.state == "READY");
        ready.map(|model| (model.name, model.version)).collect()
    }

    /// What requests of loaded models took, as each worker counts it, with its name.
    pub async fn statistics(&self) -> Vec<(String, Vec<ModelStatistics>)> {
        self.told(|mut client| async move {
            let answer = client.model_statistics(ModelStatisticsRequest::default());
            Ok(answer.await?.into_inner().model_stats)
        })
        .await
    }

    /// What all workers tell that do so at once.
    async fn told<T, F>(&self, ask: impl Fn(Client) -> F) -> Vec<(String, T)>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let members = self.members.all();
        let asking = members.iter().map(|member| {
            let answer = tokio::time::timeout(TELLING, ask(member.client()));
            async move { Some((member.name().to_owned(), answer.await.ok()?.ok()?)) }
        });
        let told = futures::future::join_all(asking).await;
        told.into_iter().flatten().collect()
    }

    /// Puts a model in service again, if it was taken out, and loads its champion.
    pub async fn load(&self, name: &str) -> Result<(), Failure> {
        self.withdrawn().remove(name);
        self.metadata(name).await.map(drop)
    }

    /// Takes a model out of service on this host: nobody is answered by it until it is loaded again.
    pub async fn unload(&self, name: &str) -> Result<(), Failure> {
        let resolved = self.resolver.resolve(name).await?.main.clone();
        self.withdrawn().insert(resolved.name.clone());
        let members = self.members.all();
        let unloading = members.iter().map(|member| self.unload_at(member, &resolved));
        futures::future::try_join_all(unloading).await.map(drop)
    }

    /// One that is not reached is not asked for it either: that it is out of service is known here.
    async fn unload_at(&self, member: &Member, resolved: &Resolved) -> Result<(), Failure> {
        member.lacks_all(&resolved.name);
        let request = RepositoryModelUnloadRequest {
            model_name: resolved.name.clone(),
            ..Default::default()
        };
        match member.client().repository_model_unload(traced(request)).await {
            Err(status) if status.code() != Code::NotFound && !another_may(&status) => {
                Err(resolved.failure(&status))
            }
            _ => Ok(()),
        }
    }

    /// Whether a model was taken out of service.
    pub fn is_withdrawn(&self, name: &str) -> bool {
        self.withdrawn().contains(name)
    }

    async fn in_service(&self, model: &str) -> Result<Arc<Route>, Failure> {
        let route = self.resolver.resolve(model).await?;
        let name = &route.main.name;
        if self.is_withdrawn(name) {
            return Err(Failure::NotFound(format!("model `{name}` is unloaded")));
        }
        Ok(route)
    }

    fn deadline(&self, patience: Option<Duration>) -> Deadline {
        let most = self.patience.infer.max(self.patience.worker);
        let limit = patience.map_or(most, |patience| patience.min(most));
        Deadline {
            limit,
            at: tokio::time::Instant::now() + limit,
        }
    }

    /// Asks the workers one after another until one answers.
    async fn with_model<T, F>(
        &self,
        resolved: &Arc<Resolved>,
        ask: impl Fn(Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let nobody = "no worker is connected that answers inference requests";
        let mut failure = Failure::Unavailable(nobody.into());
        *self.last() = Instant::now();
        if !self.members.any_within(self.patience.worker).await {
            return Err(failure);
        }
        let mut asked = Vec::new();
        while let Some(member) = self.members.enter(resolved, &asked) {
            let answer = self.ask_member(&member.0, resolved, &ask).await;
            member.0.note(&answer);
            match answer {
                Ok(answer) => {
                    member.0.has(resolved);
                    return Ok(answer.into_inner());
                }
                Err(status) if another_may(&status) => failure = resolved.failure(&status),
                Err(status) => return Err(resolved.failure(&status)),
            }
            asked.push(member.0.clone());
        }
        Err(failure)
    }

    /// Asks a worker, and once more with the model loaded if it does not know it. Requests that come meanwhile wait for the
    /// one load.
    async fn ask_member<T, F>(
        &self,
        member: &Member,
        resolved: &Resolved,
        ask: impl Fn(Client) -> F,
    ) -> Result<tonic::Response<T>, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let unknown = |status: &Status| status.code() == Code::NotFound;
        let mut answer = ask(member.client()).await;
        if answer.as_ref().is_err_and(unknown) {
            member.lacks(resolved);
            let _one_at_a_time = member.loading.lock().await;
            answer = ask(member.client()).await;
            if answer.as_ref().is_err_and(unknown) {
                let pass = self.passes.of(&resolved.bucket, &resolved.key).await;
                let pass = pass.map_err(|error| Status::unavailable(error.to_string()))?;
                let config = self.models.get(&resolved.name).cloned().unwrap_or_default();
                let load = wire::load(resolved, config, pass);
                member.client().repository_model_load(traced(load)).await?;
                answer = ask(member.client()).await;
            }
        }
        answer
    }
}

#[async_trait]
impl Inference for WorkerPool {
    async fn infer(
        &self,
        model: &str,
        key: Option<String>,
        inputs: Vec<Tensor>,
    ) -> Result<InferResponse, InferError> {
        let mut request = wire::request(inputs);
        if let Some(key) = key {
            give_key(&mut request, key);
        }
        wire::response(self.ask(model, request, None).await?)
    }
}

#[cfg(test)]
mod tests;
