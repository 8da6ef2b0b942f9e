//! What a model takes and gives, the checks of a request against it, and the form of an answer.

use std::collections::HashMap;

use bytes::Bytes;
use ort::session::Session;
use ort::value::Outlet;
use tonic::Status;

use super::element::join;
use super::proto::model_infer_response::InferOutputTensor;
use super::proto::{ModelInferRequest, ModelInferResponse};
use super::tensors::{Elements, Port};

/// What a model takes and gives.
#[derive(Debug)]
pub struct Signature {
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
}

impl Signature {
    /// Reads it out of a session; the error names what is not served.
    pub fn of(name: &str, version: &str, session: &Session) -> Result<Self, String> {
        let ports = |outlets: &[Outlet]| outlets.iter().map(Port::read).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            inputs: ports(session.inputs())?,
            outputs: ports(session.outputs())?,
            properties: properties(session),
        })
    }

    /// Whether requests may be run together: every input and output has one row for each, as far as its first dimension
    /// tells.
    pub fn has_rows(&self) -> bool {
        let mut ports = self.inputs.iter().chain(&self.outputs);
        let symbol = self.inputs.first().and_then(Port::rows);
        symbol.is_some() && ports.all(|port| port.rows() == symbol)
    }

    /// The smallest inputs that the model takes, all zero.
    pub fn zeros(&self) -> Vec<Elements> {
        let zero = |port: &Port| {
            let shape: Vec<i64> = port
                .shape
                .iter()
                .map(|&size| if size < 0 { 1 } else { size })
                .collect();
            let mut elements = Elements {
                shape,
                raw: Bytes::new(),
            };
            let count = elements.count();
            elements.raw = match port.element.size() {
                Some(size) => vec![0; size * count].into(),
                None => join(std::iter::repeat_n([].as_slice(), count)),
            };
            elements
        };
        self.inputs.iter().map(zero).collect()
    }

    /// A request's inputs in the model's order, checked; the outputs that it wants are checked as well.
    pub fn inputs(&self, request: &ModelInferRequest) -> Result<Vec<Elements>, Status> {
        self.check_outputs(request)?;
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
        let Some(unknown) = request.outputs.iter().find(|output| !known(&output.name)) else {
            return Ok(());
        };
        let allowed = names(self.outputs.iter().map(|port| port.name.as_str()));
        let unknown = &unknown.name;
        Err(Status::invalid_argument(format!(
            "unknown output `{unknown}`, allowed are `{allowed}`"
        )))
    }

    /// Runs a session on inputs; all outputs, in the model's order.
    pub fn run(&self, session: &mut Session, inputs: &[Elements]) -> Result<Vec<Elements>, Status> {
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
    pub fn answer(&self, request: &ModelInferRequest, outputs: Vec<Elements>) -> ModelInferResponse {
        let mut response = ModelInferResponse {
            model_name: self.name.clone(),
            model_version: self.version.clone(),
            id: request.id.clone(),
            ..Default::default()
        };
        let wanted = |name: &str| {
            request.outputs.is_empty() || request.outputs.iter().any(|output| output.name == name)
        };
        let outputs = self.outputs.iter().zip(outputs);
        for (port, output) in outputs.filter(|(port, _)| wanted(&port.name)) {
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
}

fn names<'a>(of: impl Iterator<Item = &'a str>) -> String {
    of.collect::<Vec<_>>().join("`, `")
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
