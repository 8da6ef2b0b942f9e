//! What an ONNX file says of itself: its operators, its inputs and its outputs. Numbers are those of `onnx.proto`.

use prost::Message as _;
use tidegate_ml::registry::{Signature, Tensor};

/// Sets of operators that the workers' ONNX Runtime has: the domain, and the oldest and newest version.
const DOMAINS: [(&str, i64, i64); 5] = [
    ("", 7, 25),
    ("ai.onnx", 7, 25),
    ("ai.onnx.ml", 1, 5),
    ("com.microsoft", 1, 1),
    ("com.microsoft.nchwc", 1, 1),
];
/// [`Constant::location`] of what lies in a file of its own.
const EXTERNAL: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opsets: Vec<Opset>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Opset {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Graph {
    #[prost(message, repeated, tag = "5")]
    constants: Vec<Constant>,
    #[prost(message, repeated, tag = "11")]
    inputs: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    outputs: Vec<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Constant {
    #[prost(string, tag = "8")]
    name: String,
    #[prost(int32, tag = "14")]
    location: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Kind {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorKind>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TensorKind {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dimensions: Vec<Dimension>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    size: Option<i64>,
}

/// What a model takes and gives; or all that keeps it from being served.
pub(super) fn signature(file: &[u8]) -> Result<Signature, Vec<String>> {
    let model = Model::decode(file).map_err(|error| vec![format!("it is no ONNX file: {error}")])?;
    let Some(graph) = model.graph else {
        return Err(vec!["it is no ONNX file: it has no graph".to_owned()]);
    };
    let mut mistakes: Vec<String> = model.opsets.iter().filter_map(unknown).collect();
    if model.opsets.is_empty() {
        mistakes.push("it names no set of operators".to_owned());
    }
    if let Some(outside) = graph
        .constants
        .iter()
        .find(|constant| constant.location == EXTERNAL)
    {
        let name = &outside.name;
        mistakes.push(format!(
            "its constant `{name}` lies outside of the file; a model here is one file"
        ));
    }
    // Before version 4 of the format, constants were inputs as well.
    let constant = |value: &&Value| graph.constants.iter().any(|constant| constant.name == value.name);
    let inputs = graph.inputs.iter().filter(|value| !constant(value));
    let mut tensors = |values: Vec<&Value>, what: &str| -> Vec<Tensor> {
        if values.is_empty() {
            mistakes.push(format!("it has no {what}"));
        }
        let read = values.into_iter().map(|value| tensor(value, what));
        read.filter_map(|tensor| tensor.map_err(|mistake| mistakes.push(mistake)).ok())
            .collect()
    };
    let signature = Signature {
        inputs: tensors(inputs.collect(), "input"),
        outputs: tensors(graph.outputs.iter().collect(), "output"),
        ..Signature::default()
    };
    match mistakes.is_empty() {
        true => Ok(signature),
        false => Err(mistakes),
    }
}

/// Why a set of operators is not one of the workers'.
fn unknown(opset: &Opset) -> Option<String> {
    let (domain, version) = (&opset.domain, opset.version);
    match DOMAINS.iter().find(|(known, ..)| known == domain) {
        None => {
            let known = DOMAINS.map(|(domain, ..)| domain);
            Some(format!(
                "it uses operators of `{domain}`, allowed are `{}`",
                known[1..].join("`, `")
            ))
        }
        Some((_, oldest, newest)) if !(oldest..=newest).contains(&&version) => {
            let domain = if domain.is_empty() { "ai.onnx" } else { domain };
            Some(format!(
                "it uses version {version} of `{domain}`, allowed are {oldest} to {newest}"
            ))
        }
        Some(_) => None,
    }
}

fn tensor(value: &Value, what: &str) -> Result<Tensor, String> {
    let name = &value.name;
    let kind = value.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
    let Some(kind) = kind else {
        return Err(format!(
            "its {what} `{name}` is no tensor (sequences and maps cannot be served)"
        ));
    };
    let Some(datatype) = datatype(kind.element) else {
        let element = kind.element;
        return Err(format!(
            "its {what} `{name}` has elements of type {element}, which cannot be served"
        ));
    };
    let dimensions = kind.shape.as_ref().map(|shape| shape.dimensions.as_slice());
    let size = |dimension: &Dimension| dimension.size.filter(|size| *size >= 0).unwrap_or(-1);
    Ok(Tensor {
        name: name.clone(),
        datatype: datatype.to_owned(),
        shape: dimensions.unwrap_or_default().iter().map(size).collect(),
    })
}

/// What the Open Inference Protocol calls ONNX's types of elements.
fn datatype(element: i32) -> Option<&'static str> {
    Some(match element {
        1 => "FP32",
        2 => "UINT8",
        3 => "INT8",
        4 => "UINT16",
        5 => "INT16",
        6 => "INT32",
        7 => "INT64",
        8 => "BYTES",
        9 => "BOOL",
        10 => "FP16",
        11 => "FP64",
        12 => "UINT32",
        13 => "UINT64",
        _ => return None,
    })
}
