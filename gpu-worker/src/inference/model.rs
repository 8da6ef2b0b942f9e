//! A loaded model: its ports and a bounded pool of ONNX Runtime sessions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use tokio::sync::Semaphore;
use tonic::Status;

use super::proto::model_infer_response::InferOutputTensor;
use super::proto::{ModelInferRequest, ModelInferResponse};
use super::runtime;
use super::tensors::{Elements, Port};

/// Requests with up to this many input elements run where they arrive: that takes a millisecond at most, and a hop
/// to another thread costs more than it saves. Larger ones go to a thread of their own.
const INLINE_ELEMENTS: usize = 32 * 1024;

/// How models are run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// ONNX Runtime's threads inside one request (`TIDEGATE_ORT_THREADS`, 1).
    pub threads: usize,
    /// Requests of one model that run at the same time.
    pub sessions: usize,
    /// Requests of one model that wait for their turn; more are refused.
    pub waiting: usize,
    /// Models loaded at the same time; the least recently used one gives way.
    pub models: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: 1,
            sessions: cores.min(8),
            waiting: 1024,
            models: 16,
        }
    }
}

/// A loaded model.
#[derive(Debug)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it takes.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
    /// Facts its file holds.
    pub properties: HashMap<String, String>,
    idle: Mutex<Vec<Session>>,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    limits: Limits,
}

impl Model {
    /// Loads an ONNX file; the error says what about it does not work.
    pub fn load(name: &str, version: &str, file: &[u8], limits: Limits) -> Result<Self, String> {
        let environment = runtime::environment()?;
        let open = || -> ort::Result<Session> {
            let mut builder = Session::builder(environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(limits.threads)?
                .with_config_entry("session.intra_op.allow_spinning", "0")?;
            builder.commit_from_memory(file)
        };
        let sessions = (0..limits.sessions.max(1))
            .map(|_| open())
            .collect::<ort::Result<Vec<_>>>();
        let sessions = sessions.map_err(|e| format!("is not a usable ONNX file: {e}"))?;
        let first = sessions.first().ok_or("has no session")?;
        let ports =
            |outlets: &[ort::value::Outlet]| outlets.iter().map(Port::read).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            inputs: ports(first.inputs())?,
            outputs: ports(first.outputs())?,
            properties: properties(first),
            turns: Arc::new(Semaphore::new(sessions.len())),
            idle: Mutex::new(sessions),
            waiting: AtomicUsize::new(0),
            limits,
        })
    }

    /// Runs the model on a request.
    pub async fn infer(self: &Arc<Self>, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        self.check_outputs(&request)?;
        let inputs = self.inputs(&request)?;
        let _waiting = Waiting::enter(&self.waiting, self.limits.waiting + self.limits.sessions)?;
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|_| Status::unavailable("the model is being unloaded"))?;
        let elements: usize = inputs.iter().map(Elements::count).sum();
        if elements <= INLINE_ELEMENTS {
            return Ok(self.response(&request, self.run(&inputs)?));
        }
        let model = self.clone();
        let run = tokio::task::spawn_blocking(move || {
            // The turn ends with the run, also where its caller has gone meanwhile.
            let _turn = turn;
            model.run(&inputs)
        });
        let outputs = run
            .await
            .map_err(|e| Status::internal(format!("the model's thread ended: {e}")))?;
        Ok(self.response(&request, outputs?))
    }

    fn run(&self, inputs: &[Elements]) -> Result<Vec<Elements>, Status> {
        let taken = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session =
            taken.ok_or_else(|| Status::internal("no session is idle though it is this one's turn"))?;
        let result = self.run_on(&mut session, inputs);
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(session);
        result
    }

    fn run_on(&self, session: &mut Session, inputs: &[Elements]) -> Result<Vec<Elements>, Status> {
        let values = self.inputs.iter().zip(inputs);
        let values = values.map(|(port, input)| match input.value(port.element) {
            Ok(value) => Ok((port.name.as_str(), value)),
            Err(reason) => Err(Status::invalid_argument(format!(
                "input `{}` {reason}",
                port.name
            ))),
        });
        let values = values.collect::<Result<Vec<_>, _>>()?;
        // Types and shapes were checked: what is left are sizes that do not fit each other.
        let results = session.run(values).map_err(|e| {
            Status::invalid_argument(format!("model `{}` cannot run on these inputs: {e}", self.name))
        })?;
        let output = |port: &Port| {
            let value = results.get(&port.name);
            let value = value.ok_or_else(|| Status::internal("an output is missing"))?;
            Elements::of(value, port.element)
                .map_err(|e| Status::internal(format!("model `{}`: {e}", self.name)))
        };
        self.outputs.iter().map(output).collect()
    }

    /// The outputs that a request wants, as its answer.
    fn response(&self, request: &ModelInferRequest, outputs: Vec<Elements>) -> ModelInferResponse {
        let mut response = ModelInferResponse {
            model_name: self.name.clone(),
            model_version: self.version.clone(),
            id: request.id.clone(),
            ..Default::default()
        };
        let outputs = self.outputs.iter().zip(outputs);
        for (port, output) in outputs.filter(|(port, _)| wanted(request, &port.name)) {
            response.outputs.push(InferOutputTensor {
                name: port.name.clone(),
                datatype: port.element.name().to_owned(),
                shape: output.shape,
                ..Default::default()
            });
            response.raw_output_contents.push(output.raw);
        }
        response
    }

    /// The request's inputs in the model's order, checked.
    fn inputs(&self, request: &ModelInferRequest) -> Result<Vec<Elements>, Status> {
        let (sent, raw) = (&request.inputs, &request.raw_input_contents);
        let complete = self
            .inputs
            .iter()
            .all(|port| sent.iter().any(|input| input.name == port.name));
        if sent.len() != self.inputs.len() || !complete {
            let found = names(sent.iter().map(|input| input.name.as_str()));
            let allowed = names(self.inputs.iter().map(|port| port.name.as_str()));
            return Err(Status::invalid_argument(format!(
                "found inputs `{found}`, allowed are `{allowed}`, each once"
            )));
        }
        if !raw.is_empty() && raw.len() != sent.len() {
            let (raw, sent) = (raw.len(), sent.len());
            return Err(Status::invalid_argument(format!(
                "found {raw} raw_input_contents for {sent} inputs, allowed is one each or none"
            )));
        }
        let find = |port: &Port| {
            let at = sent.iter().position(|input| input.name == port.name);
            let at = at.unwrap_or_default();
            port.check(&sent[at], raw.get(at))
        };
        let inputs = self.inputs.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        self.agree(&inputs)?;
        Ok(inputs)
    }

    /// Dimensions of one name must have one size.
    fn agree(&self, inputs: &[Elements]) -> Result<(), Status> {
        let mut sizes: HashMap<&str, i64> = HashMap::new();
        let ports = self.inputs.iter().zip(inputs);
        for (symbol, size) in ports.flat_map(|(port, input)| port.chosen(input)) {
            let known = *sizes.entry(symbol).or_insert(size);
            if known != size {
                return Err(Status::invalid_argument(format!(
                    "dimension `{symbol}` is {known} in one input and {size} in another, allowed is one size"
                )));
            }
        }
        Ok(())
    }

    fn check_outputs(&self, request: &ModelInferRequest) -> Result<(), Status> {
        let known = |name: &str| self.outputs.iter().any(|port| port.name == name);
        match request.outputs.iter().find(|output| !known(&output.name)) {
            None => Ok(()),
            Some(unknown) => Err(Status::invalid_argument(format!(
                "unknown output `{}`, allowed are `{}`",
                unknown.name,
                names(self.outputs.iter().map(|port| port.name.as_str()))
            ))),
        }
    }
}

fn names<'a>(of: impl Iterator<Item = &'a str>) -> String {
    of.collect::<Vec<_>>().join("`, `")
}

fn wanted(request: &ModelInferRequest, name: &str) -> bool {
    request.outputs.is_empty() || request.outputs.iter().any(|output| output.name == name)
}

fn properties(session: &Session) -> HashMap<String, String> {
    let Ok(metadata) = session.metadata() else {
        return HashMap::new();
    };
    let keys = metadata.custom_keys().unwrap_or_default();
    keys.into_iter()
        .filter_map(|key| metadata.custom(&key).map(|value| (key, value)))
        .collect()
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
