//! A loaded model: what it takes and gives, its sessions, and how requests get to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use ort::session::Session;
use tonic::Status;

use super::batch;
use super::budget::{Share, resident, trim};
use super::padding::{Fill, Padding};
use super::proto::{ModelInferRequest, ModelInferResponse};
use super::provider::Execution;
use super::queue::{Batching, Queue};
use super::sessions::{self, Sessions, Turn};
use super::signature::Signature;
use super::statistics::Statistics;
use super::tensors::Elements;

/// Requests with up to this many input elements run where they arrive: that takes a millisecond at most, and a hop
/// to another thread costs more than it saves. Larger ones go to a thread of their own.
const INLINE_ELEMENTS: usize = 32 * 1024;

/// How models are run.
#[derive(Debug, Clone)]
pub struct Limits {
    /// ONNX Runtime's threads inside one request (`TIDEGATE_ORT_THREADS`, 1), and its execution providers
    /// (`TIDEGATE_EXECUTION_PROVIDERS`, `cpu`).
    pub execution: Execution,
    /// Requests, or batches, of one model that run at the same time, where its configuration has no group of instances.
    pub sessions: usize,
    /// Requests of one model that wait for their turn; more are refused.
    pub waiting: usize,
    /// Models loaded at the same time; the least recently used one gives way.
    pub models: usize,
    /// Bytes of memory that they may take together (`TIDEGATE_MODEL_MEMORY`, 2 GiB).
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            execution: Execution::cpu(1),
            sessions: cores.min(8),
            waiting: 1024,
            models: 256,
            memory: 2 << 30,
        }
    }
}

/// A loaded model.
#[derive(Debug)]
pub struct Model {
    core: Arc<Core>,
    queue: Option<Queue>,
    waiting: AtomicUsize,
    /// Requests that may wait for their turn.
    may_wait: usize,
}

/// What runs a model, apart from how requests get there.
#[derive(Debug)]
pub struct Core {
    /// What it takes and gives.
    pub signature: Signature,
    /// Its sessions.
    pub sessions: Arc<Sessions>,
    /// What its requests took.
    pub statistics: Statistics,
    /// How requests of different shapes are run together.
    pub padding: Padding,
}

/// A file that is opened, and what that took.
#[derive(Debug)]
pub struct Opened {
    sessions: Vec<Session>,
    /// How many sessions there are to be; as many as requests have use for where no group of instances is configured.
    instances: Option<usize>,
    signature: Signature,
    file: Bytes,
    execution: Execution,
    padding: Padding,
    /// Bytes of memory of one session.
    pub takes: u64,
}

impl Opened {
    /// Opens an ONNX file and runs it once; the error says what about it does not work. What it takes is measured, so that
    /// no other may be opened meanwhile.
    pub fn open(name: &str, version: &str, file: Bytes, execution: Execution) -> Result<Self, String> {
        let before = resident();
        let mut first = sessions::open(&file, &execution)?;
        let signature = Signature::of(name, version, &first)?;
        if let Err(reason) = signature.run(&mut first, &signature.zeros()) {
            tracing::info!(model = name, version, reason = reason.message(), "not warmed up");
        }
        // What ONNX Runtime read the file into on its way is free by now.
        trim();
        // The file is kept for further sessions, and each has weights of its own.
        let least = 2 * file.len() as u64;
        Ok(Self {
            takes: resident().saturating_sub(before).max(least),
            sessions: vec![first],
            instances: None,
            signature,
            file,
            execution,
            padding: Padding::default(),
        })
    }

    /// The same with requests of different shapes filled up, where they are run together.
    pub fn padded(mut self, fill: &Fill) -> Result<Self, String> {
        self.padding = Padding::of(&self.signature, fill)?;
        Ok(self)
    }

    /// The same with as many sessions as there are instances.
    pub fn with_instances(mut self, count: usize) -> Result<Self, String> {
        while self.sessions.len() < count {
            self.sessions.push(sessions::open(&self.file, &self.execution)?);
        }
        self.instances = Some(count);
        Ok(self)
    }
}

impl Model {
    /// A model that is opened, for which there is room.
    pub fn new(opened: Opened, share: Share, limits: &Limits, batching: Option<Batching>) -> Self {
        let Opened {
            sessions,
            instances,
            signature,
            file,
            execution,
            padding,
            ..
        } = opened;
        let most = instances.unwrap_or(limits.sessions).max(1);
        if batching.is_some() && !signature.has_rows() {
            tracing::warn!(
                model = signature.name,
                version = signature.version,
                "requests are not run together: not every input and output has the same free first dimension"
            );
        }
        let batching = batching.filter(|batching| batching.most > 1 && signature.has_rows());
        let core = Arc::new(Core {
            signature,
            sessions: Sessions::new(sessions, file, execution, most, share),
            statistics: Statistics::default(),
            padding,
        });
        let queue = |batching| Queue::start(core.clone(), batching, limits.waiting);
        Self {
            queue: batching.map(queue),
            core,
            waiting: AtomicUsize::new(0),
            may_wait: limits.waiting,
        }
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.core.signature
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> u64 {
        self.core.sessions.bytes()
    }

    /// Its sessions.
    #[cfg(test)]
    pub(super) fn sessions(&self) -> &Arc<Sessions> {
        &self.core.sessions
    }

    /// What its requests took.
    pub fn statistics(&self) -> &Statistics {
        &self.core.statistics
    }

    /// Runs the model on a request.
    pub async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        let begun = Instant::now();
        let outputs = match self.core.signature.inputs(&request) {
            Ok(inputs) => self.outputs(inputs).await,
            Err(refused) => Err(refused),
        };
        self.core.statistics.answered(outputs.is_ok(), begun.elapsed());
        Ok(self.core.signature.answer(&request, outputs?))
    }

    async fn outputs(&self, inputs: Vec<Elements>) -> Result<Vec<Elements>, Status> {
        let _waiting = Waiting::enter(&self.waiting, self.may_wait + self.core.sessions.most())?;
        let since = Instant::now();
        let rows = batch::rows(&inputs);
        if let Some((queue, rows)) = self.queue.as_ref().zip(rows)
            && queue.takes(rows)
        {
            return match queue.lets_pass().then(|| self.core.sessions.try_take()).flatten() {
                Some(turn) => self.alone(turn, inputs, since).await,
                None => queue.infer(inputs, rows).await,
            };
        }
        let turn = self.core.sessions.take().await?;
        self.alone(turn, inputs, since).await
    }

    async fn alone(
        &self,
        mut turn: Turn,
        inputs: Vec<Elements>,
        since: Instant,
    ) -> Result<Vec<Elements>, Status> {
        self.core.statistics.waited(since.elapsed());
        let rows = batch::rows(&inputs).unwrap_or(1);
        let elements: usize = inputs.iter().map(Elements::count).sum();
        if elements <= INLINE_ELEMENTS {
            return self.core.run(&mut turn, &inputs, rows, 1);
        }
        // The turn ends with the run, also where its caller has gone meanwhile.
        let core = self.core.clone();
        let run = tokio::task::spawn_blocking(move || core.run(&mut turn, &inputs, rows, 1));
        let ended = |e| Err(Status::internal(format!("the model's thread ended: {e}")));
        run.await.unwrap_or_else(ended)
    }
}

impl Core {
    /// Runs inputs of so many rows, which are those of so many requests.
    pub fn run(
        &self,
        turn: &mut Turn,
        inputs: &[Elements],
        rows: usize,
        requests: usize,
    ) -> Result<Vec<Elements>, Status> {
        let begun = Instant::now();
        let outputs = self.signature.run(turn.session()?, inputs)?;
        self.statistics.ran(rows, requests, begun.elapsed());
        Ok(outputs)
    }
}

/// Counts a request among those that wait or run; a caller that goes away is counted no more.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, most: usize) -> Result<Self, Status> {
        let entered = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) >= most {
            return Err(Status::resource_exhausted(format!(
                "{most} requests of this model wait already"
            )));
        }
        Ok(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
