//! An inference request out of a body: its JSON, and what follows that as bytes (Triton's binary tensor extension).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::input::Input;
use crate::api::error::ApiError;
use crate::inference::open_inference::infer_parameter::ParameterChoice;
use crate::inference::open_inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::inference::open_inference::{InferParameter, ModelInferRequest};

/// Inputs, and outputs, of one request.
const TENSORS: usize = 256;
/// Parameters that ask for what is not done here, rather than being ignored.
const REFUSED: [&str; 4] = [
    "classification",
    "shared_memory_region",
    "shared_memory_offset",
    "shared_memory_byte_size",
];

/// A request, and how its answer is to be written.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: ModelInferRequest,
    /// How long it may take.
    pub(super) patience: Option<Duration>,
    pub(super) form: Form,
}

/// Which outputs go out as bytes behind the JSON.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// Whether those do that say nothing else.
    binary: bool,
    others: HashSet<String>,
}

impl Form {
    pub(super) fn is_binary(&self, output: &str) -> bool {
        self.binary != self.others.contains(output)
    }
}

#[derive(Deserialize)]
struct Body {
    id: Option<String>,
    parameters: Option<Map<String, Value>>,
    inputs: Vec<Input>,
    outputs: Option<Vec<Output>>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    parameters: Option<Map<String, Value>>,
}

/// Reads a request, of which nothing but bytes of tensors is kept; `json` are the bytes of its JSON, where those follow.
pub(super) fn read(body: Bytes, json: Option<usize>) -> Result<Asked, ApiError> {
    let length = json.unwrap_or(body.len());
    if length > body.len() {
        let whole = body.len();
        return Err(ApiError::bad(format!(
            "`inference-header-content-length` is {length}, and the body has {whole} bytes"
        )));
    }
    let parsed: Body = sonic_rs::from_slice(&body[..length]).map_err(|error| no_request(&error))?;
    let mut parameters = parsed.parameters.unwrap_or_default();
    let binary = flag(&mut parameters, "binary_data_output", "parameters")?.unwrap_or(false);
    let patience = patience(&parameters)?;
    let mut request = ModelInferRequest {
        id: parsed.id.unwrap_or_default(),
        parameters: into_message(parameters, "parameters")?,
        ..Default::default()
    };
    let outputs = parsed.outputs.unwrap_or_default();
    if parsed.inputs.len().max(outputs.len()) > TENSORS {
        return Err(ApiError::bad(format!(
            "found more than {TENSORS} tensors in one request"
        )));
    }
    let mut rest = body.slice(length..);
    for (at, input) in parsed.inputs.into_iter().enumerate() {
        add_input(&mut request, input, &mut rest, &format!("inputs[{at}]"))?;
    }
    if !rest.is_empty() {
        let (left, what) = (
            rest.len(),
            "bytes follow the JSON that no `binary_data_size` asks for",
        );
        return Err(ApiError::bad(format!("{left} {what}")));
    }
    let mut form = Form {
        binary,
        others: HashSet::new(),
    };
    for (at, output) in outputs.into_iter().enumerate() {
        add_output(&mut request, output, &mut form, &format!("outputs[{at}]"))?;
    }
    Ok(Asked {
        request,
        patience,
        form,
    })
}

/// What is wrong with the JSON, without the piece of it that the library draws below.
fn no_request(error: &sonic_rs::Error) -> ApiError {
    let error = error.to_string();
    let said = error.lines().next().unwrap_or_default();
    ApiError::bad(format!("the request is no inference request: {said}"))
}

fn add_input(
    request: &mut ModelInferRequest,
    input: Input,
    rest: &mut Bytes,
    at: &str,
) -> Result<(), ApiError> {
    let bad = |reason: String| ApiError::bad(format!("`{at}`: {reason}"));
    let mut parameters = input.parameters.unwrap_or_default();
    let raw = match (size(&mut parameters, at)?, input.data) {
        (Some(size), None) if size <= rest.len() => rest.split_to(size),
        (Some(size), None) => {
            let left = rest.len();
            return Err(bad(format!(
                "`binary_data_size` is {size}, and {left} bytes are left after the JSON"
            )));
        }
        (None, Some(data)) => data.into(),
        (Some(_), Some(_)) => {
            return Err(bad(
                "both `data` and `binary_data_size`, expected one of them".into()
            ));
        }
        (None, None) => {
            return Err(bad(
                "neither `data` nor `binary_data_size`, expected one of them".into()
            ));
        }
    };
    let extent = |&extent: &u64| i64::try_from(extent).unwrap_or(i64::MAX);
    request.raw_input_contents.push(raw);
    request.inputs.push(InferInputTensor {
        name: input.name,
        datatype: input.datatype.name().to_owned(),
        shape: input.shape.iter().map(extent).collect(),
        parameters: into_message(parameters, at)?,
        contents: None,
    });
    Ok(())
}

fn add_output(
    request: &mut ModelInferRequest,
    output: Output,
    form: &mut Form,
    at: &str,
) -> Result<(), ApiError> {
    let mut parameters = output.parameters.unwrap_or_default();
    let binary = flag(&mut parameters, "binary_data", at)?;
    if binary.is_some_and(|binary| binary != form.binary) {
        form.others.insert(output.name.clone());
    }
    request.outputs.push(InferRequestedOutputTensor {
        name: output.name,
        parameters: into_message(parameters, at)?,
    });
    Ok(())
}

fn flag(parameters: &mut Map<String, Value>, name: &str, at: &str) -> Result<Option<bool>, ApiError> {
    match parameters.remove(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(found) => Err(ApiError::bad(format!(
            "`{at}`: `{name}` is `{found}`, allowed are `true` and `false`"
        ))),
    }
}

fn size(parameters: &mut Map<String, Value>, at: &str) -> Result<Option<usize>, ApiError> {
    let Some(found) = parameters.remove("binary_data_size") else {
        return Ok(None);
    };
    let size = found.as_u64().and_then(|size| usize::try_from(size).ok());
    let wrong = || {
        ApiError::bad(format!(
            "`{at}`: `binary_data_size` is `{found}`, expected a number of bytes"
        ))
    };
    size.map(Some).ok_or_else(wrong)
}

/// The parameter `timeout`, in microseconds; 0 is how clients say that there is none.
fn patience(parameters: &Map<String, Value>) -> Result<Option<Duration>, ApiError> {
    let Some(found) = parameters.get("timeout") else {
        return Ok(None);
    };
    let micros = found.as_u64().ok_or_else(|| {
        ApiError::bad(format!(
            "parameter `timeout` is `{found}`, expected a whole number of microseconds"
        ))
    })?;
    Ok(Some(Duration::from_micros(micros)).filter(|patience| !patience.is_zero()))
}

/// The same of a message.
pub(super) fn patience_of(request: &ModelInferRequest) -> Result<Option<Duration>, ApiError> {
    let timeout = request.parameters.get("timeout");
    let value = match timeout.and_then(|timeout| timeout.parameter_choice.as_ref()) {
        None => return Ok(None),
        Some(ParameterChoice::Int64Param(micros)) => Value::from(*micros),
        Some(ParameterChoice::Uint64Param(micros)) => Value::from(*micros),
        Some(_) => Value::from("something else"),
    };
    patience(&Map::from_iter([("timeout".to_owned(), value)]))
}

/// Refuses a message that asks for what is not offered.
pub(super) fn refuse_extensions(request: &ModelInferRequest) -> Result<(), ApiError> {
    let inputs = request.inputs.iter().flat_map(|input| input.parameters.keys());
    let outputs = request.outputs.iter().flat_map(|output| output.parameters.keys());
    match inputs
        .chain(outputs)
        .find(|name| REFUSED.contains(&name.as_str()))
    {
        None => Ok(()),
        Some(name) => Err(not_offered(name)),
    }
}

fn not_offered(name: &str) -> ApiError {
    ApiError::bad(format!(
        "parameter `{name}` belongs to an extension that is not offered here"
    ))
}

fn into_message(
    parameters: Map<String, Value>,
    at: &str,
) -> Result<HashMap<String, InferParameter>, ApiError> {
    let choice = |name: &str, value: Value| match value {
        _ if REFUSED.contains(&name) => Err(not_offered(name)),
        Value::Bool(flag) => Ok(ParameterChoice::BoolParam(flag)),
        Value::String(text) => Ok(ParameterChoice::StringParam(text)),
        Value::Number(number) => Ok(match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => ParameterChoice::Int64Param(whole),
            (None, Some(whole)) => ParameterChoice::Uint64Param(whole),
            (None, None) => ParameterChoice::DoubleParam(number.as_f64().unwrap_or_default()),
        }),
        found => Err(ApiError::bad(format!(
            "`{at}`: parameter `{name}` is `{found}`, allowed are numbers, texts, `true` and `false`"
        ))),
    };
    let parameters = parameters.into_iter().map(|(name, value)| {
        let parameter_choice = Some(choice(&name, value)?);
        Ok((name, InferParameter { parameter_choice }))
    });
    parameters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        read(Bytes::copy_from_slice(json.as_bytes()), None)
            .unwrap_err()
            .message
    }

    fn body(input: &str) -> String {
        format!(r#"{{"inputs":[{{"name":"x","shape":[2],"datatype":"FP32",{input}}}]}}"#)
    }

    #[test]
    fn bytes_behind_the_json_belong_to_the_inputs_in_their_order() {
        let json = r#"{"id":"7","parameters":{"binary_data_output":true,"who":"me","timeout":1500},"inputs":[
            {"name":"a","shape":[1],"datatype":"INT16","parameters":{"binary_data_size":2}},
            {"name":"b","shape":[2],"datatype":"UINT8","data":[3,4]},
            {"name":"c","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}],
            "outputs":[{"name":"y","parameters":{"binary_data":false}},{"name":"z"}]}"#;
        let mut whole = json.as_bytes().to_vec();
        whole.extend_from_slice(&[1, 0, 1, 0, 0, 0, b'q']);
        let asked = read(whole.into(), Some(json.len())).unwrap();
        let raw = &asked.request.raw_input_contents;
        assert_eq!(raw, &[&[1, 0][..], &[3, 4], &[1, 0, 0, 0, b'q']]);
        assert_eq!(asked.request.id, "7");
        assert_eq!(asked.patience, Some(Duration::from_micros(1500)));
        assert!(asked.request.parameters.contains_key("who"));
        assert!(!asked.form.is_binary("y") && asked.form.is_binary("z"));
    }

    #[test]
    fn elements_may_stand_before_their_type_and_shape() {
        let input = r#""data":[[1,2],[3,4]],"datatype":"UINT8","name":"x","shape":[2,2],"more":[{}]"#;
        let json = format!(r#"{{"inputs":[{{{input}}}]}}"#);
        let asked = read(json.into(), None).unwrap();
        assert_eq!(asked.request.raw_input_contents, [[1, 2, 3, 4].as_slice()]);
        let error = refused(r#"{"inputs":[{"data":[1,"a"],"datatype":"FP32","name":"x","shape":[2]}]}"#);
        let said = "input `x`: found `a`, allowed for `FP32` are numbers at line 1 column 68";
        assert!(error.ends_with(said), "{error}");
    }

    #[test]
    fn every_mistake_says_where_what_was_found_and_what_is_allowed() {
        for (json, said) in [
            (
                body(r#""data":[1,"a"]"#),
                "input `x`: found `a`, allowed for `FP32` are numbers at line 1 column 6",
            ),
            (body(r#""data":[1]"#), "found 1 elements, and shape [2]"),
            (
                body(r#""parameters":{}"#),
                "neither `data` nor `binary_data_size`",
            ),
            (
                body(r#""parameters":{"binary_data_size":8}"#),
                "and 0 bytes are left",
            ),
            (
                body(r#""parameters":{"binary_data_size":-1}"#),
                "`binary_data_size` is `-1`",
            ),
            (
                body(r#""parameters":{"shared_memory_region":"r"},"data":[1,2]"#),
                "is not offered here",
            ),
            (
                body(r#""parameters":{"odd":[1]},"data":[1,2]"#),
                "parameter `odd` is `[1]`",
            ),
            ("{}".into(), "missing field `inputs`"),
            ("[1".into(), "is no inference request"),
            (
                r#"{"inputs":[],"parameters":{"timeout":-1}}"#.into(),
                "expected a whole number of microseconds",
            ),
            (
                r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":2}}]}"#.into(),
                "parameter `classification` belongs to an extension",
            ),
        ] {
            let error = refused(&json);
            assert!(error.contains(said), "{json}: {error}");
        }
        let beyond = read(Bytes::from_static(b"{}"), Some(3)).unwrap_err();
        assert!(beyond.message.contains("the body has 2 bytes"), "{beyond}");
        let left = read(Bytes::from_static(b"{\"inputs\":[]}xx"), Some(13)).unwrap_err();
        assert!(left.message.starts_with("2 bytes follow the JSON"), "{left}");
    }
}
