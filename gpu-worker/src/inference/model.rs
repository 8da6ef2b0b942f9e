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
use super::tensors::{Input, Port, encode};

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
    turns: Semaphore,
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
            turns: Semaphore::new(sessions.len()),
            idle: Mutex::new(sessions),
            waiting: AtomicUsize::new(0),
            limits,
        })
    }

    /// Runs the model on a request.
    pub async fn infer(self: &Arc<Self>, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        self.check_outputs(&request)?;
        let elements: usize = self.inputs(&request)?.iter().map(Input::elements).sum();
        let _waiting = Waiting::enter(&self.waiting, self.limits.waiting + self.limits.sessions)?;
        let _turn = self
            .turns
            .acquire()
            .await
            .map_err(|_| Status::unavailable("the model is being unloaded"))?;
        if elements <= INLINE_ELEMENTS {
            return self.run(&request);
        }
        let model = self.clone();
        let run = tokio::task::spawn_blocking(move || model.run(&request));
        run.await
            .unwrap_or_else(|e| Err(Status::internal(format!("the model's thread ended: {e}"))))
    }

    fn run(&self, request: &ModelInferRequest) -> Result<ModelInferResponse, Status> {
        let inputs = self.inputs(request)?;
        let taken = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session =
            taken.ok_or_else(|| Status::internal("no session is idle though it is this one's turn"))?;
        let result = self.run_on(&mut session, &inputs, request);
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(session);
        result
    }

    fn run_on(
        &self,
        session: &mut Session,
        inputs: &[Input<'_>],
        request: &ModelInferRequest,
    ) -> Result<ModelInferResponse, Status> {
        let internal = |e: ort::Error| Status::internal(format!("model `{}`: {e}", self.name));
        let values = inputs
            .iter()
            .map(Input::value)
            .collect::<ort::Result<Vec<_>>>()
            .map_err(internal)?;
        // Types and shapes were checked: what is left are sizes that do not fit each other.
        let results = session.run(values).map_err(|e| {
            Status::invalid_argument(format!("model `{}` cannot run on these inputs: {e}", self.name))
        })?;
        let mut response = ModelInferResponse {
            model_name: self.name.clone(),
            model_version: self.version.clone(),
            id: request.id.clone(),
            ..Default::default()
        };
        for port in self.outputs.iter().filter(|port| wanted(request, &port.name)) {
            let value = results
                .get(&port.name)
                .ok_or_else(|| Status::internal("an output is missing"))?;
            let (shape, raw) = encode(value, port.element).map_err(internal)?;
            let (name, datatype) = (port.name.clone(), port.element.name().to_owned());
            response.outputs.push(InferOutputTensor {
                name,
                datatype,
                shape,
                ..Default::default()
            });
            response.raw_output_contents.push(raw);
        }
        Ok(response)
    }

    /// The request's inputs in the model's order, checked.
    fn inputs<'a>(&'a self, request: &'a ModelInferRequest) -> Result<Vec<Input<'a>>, Status> {
        let (sent, raw) = (&request.inputs, &request.raw_input_contents);
        let names = || {
            self.inputs
                .iter()
                .map(|port| port.name.as_str())
                .collect::<Vec<_>>()
                .join("`, `")
        };
        let sent_names = || {
            sent.iter()
                .map(|input| input.name.as_str())
                .collect::<Vec<_>>()
                .join("`, `")
        };
        let complete = self
            .inputs
            .iter()
            .all(|port| sent.iter().any(|input| input.name == port.name));
        if sent.len() != self.inputs.len() || !complete {
            return Err(Status::invalid_argument(format!(
                "found inputs `{}`, allowed are `{}`, each once",
                sent_names(),
                names()
            )));
        }
        if !raw.is_empty() && raw.len() != sent.len() {
            return Err(Status::invalid_argument(format!(
                "found {} raw_input_contents for {} inputs, allowed is one each or none",
                raw.len(),
                sent.len()
            )));
        }
        let find = |port: &'a Port| -> Result<Input<'a>, Status> {
            let at = sent
                .iter()
                .position(|input| input.name == port.name)
                .unwrap_or_default();
            Input::check(port, &sent[at], raw.get(at))
        };
        let inputs = self.inputs.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        agree(&inputs)?;
        Ok(inputs)
    }

    fn check_outputs(&self, request: &ModelInferRequest) -> Result<(), Status> {
        let known = |name: &str| self.outputs.iter().any(|port| port.name == name);
        match request.outputs.iter().find(|output| !known(&output.name)) {
            None => Ok(()),
            Some(unknown) => Err(Status::invalid_argument(format!(
                "unknown output `{}`, allowed are `{}`",
                unknown.name,
                self.outputs
                    .iter()
                    .map(|port| port.name.as_str())
                    .collect::<Vec<_>>()
                    .join("`, `")
            ))),
        }
    }
}

/// Dimensions of one name must have one size.
fn agree(inputs: &[Input<'_>]) -> Result<(), Status> {
    let mut sizes: HashMap<&str, i64> = HashMap::new();
    for (symbol, size) in inputs.iter().flat_map(Input::symbols) {
        let known = *sizes.entry(symbol).or_insert(size);
        if known != size {
            return Err(Status::invalid_argument(format!(
                "dimension `{symbol}` is {known} in one input and {size} in another, allowed is one size"
            )));
        }
    }
    Ok(())
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
