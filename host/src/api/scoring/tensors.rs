//! Columns and rows as a model's inputs, and its outputs as predictions.

use serde::de::DeserializeSeed as _;
use serde_json::{Map, Value};

use super::columns::Asked;
use crate::api::error::ApiError;
use crate::api::oip::{Datatype, Elements};
use crate::inference::Failure;
use crate::inference::open_inference::model_infer_request::InferInputTensor;
use crate::inference::open_inference::model_metadata_response::TensorMetadata;
use crate::inference::open_inference::{ModelInferRequest, ModelInferResponse};

/// Gives a request the tensors that a model takes: a column for each of its inputs, or all of them as its only one.
pub(super) fn fill(
    mut request: ModelInferRequest,
    takes: &[TensorMetadata],
    asked: Asked,
) -> Result<ModelInferRequest, ApiError> {
    let columns = match (asked, takes) {
        (Asked::Rows(rows), [only]) => vec![(only.name.clone(), rows)],
        (Asked::Rows(_), _) => {
            let names = names(takes);
            return Err(ApiError::bad(format!(
                "found a list, expected one for each of the inputs `{names}`"
            )));
        }
        (Asked::Columns(columns), [only]) if columns.iter().all(|(name, _)| *name != only.name) => {
            vec![(only.name.clone(), side_by_side(columns))]
        }
        (Asked::Columns(columns), _) => columns,
    };
    for (name, rows) in columns {
        let Some(port) = takes.iter().find(|port| port.name == name) else {
            let names = names(takes);
            return Err(ApiError::bad(format!(
                "found column `{name}`, allowed are `{names}`"
            )));
        };
        add(&mut request, port, Value::Array(rows))?;
    }
    Ok(request)
}

fn names(takes: &[TensorMetadata]) -> String {
    let names: Vec<&str> = takes.iter().map(|port| port.name.as_str()).collect();
    names.join("`, `")
}

/// Rows that have a value of each column.
fn side_by_side(columns: Vec<(String, Vec<Value>)>) -> Vec<Value> {
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for (_, column) in columns {
        rows.resize_with(rows.len().max(column.len()), Vec::new);
        for (row, value) in rows.iter_mut().zip(column) {
            row.push(value);
        }
    }
    rows.into_iter().map(Value::Array).collect()
}

fn add(request: &mut ModelInferRequest, port: &TensorMetadata, rows: Value) -> Result<(), ApiError> {
    let bad = |reason: String| ApiError::bad(format!("`{}`: {reason}", port.name));
    let datatype = Datatype::named(&port.datatype).map_err(bad)?;
    let mut shape = shape(&rows);
    let elements = Elements {
        datatype,
        shape: &shape,
    };
    let raw = elements
        .deserialize(rows)
        .map_err(|error| bad(error.to_string()))?;
    // A column of values is as good as one of lists with one value.
    if shape.len() + 1 == port.shape.len() {
        shape.push(1);
    }
    let extent = |&extent: &u64| i64::try_from(extent).unwrap_or(i64::MAX);
    request.raw_input_contents.push(raw.into());
    request.inputs.push(InferInputTensor {
        name: port.name.clone(),
        datatype: port.datatype.clone(),
        shape: shape.iter().map(extent).collect(),
        ..Default::default()
    });
    Ok(())
}

/// The shape that the first of each list has; whether the others have it is checked as they are read.
fn shape(mut value: &Value) -> Vec<u64> {
    let mut shape = Vec::new();
    while let Value::Array(list) = value {
        shape.push(list.len() as u64);
        match list.first() {
            Some(first) => value = first,
            None => break,
        }
    }
    shape
}

/// The outputs: the only one as it is, more by their names.
pub(super) fn predictions(answer: &ModelInferResponse) -> Result<Value, ApiError> {
    let outputs = answer.outputs.iter().zip(&answer.raw_output_contents);
    let mut all = Map::new();
    for (output, raw) in outputs {
        let told = |error: String| Failure::Unavailable(format!("output `{}`: {error}", output.name));
        let datatype = Datatype::named(&output.datatype).map_err(told)?;
        let flat = datatype.write(raw, serde_json::value::Serializer);
        let flat = flat.map_err(|error| told(error.to_string()))?;
        let mut values = match flat {
            Value::Array(values) => values.into_iter(),
            other => vec![other].into_iter(),
        };
        all.insert(output.name.clone(), nested(&mut values, &output.shape));
    }
    if all.len() == 1 {
        return Ok(all.into_iter().map(|(_, value)| value).next().unwrap_or_default());
    }
    Ok(Value::Object(all))
}

fn nested(values: &mut impl Iterator<Item = Value>, shape: &[i64]) -> Value {
    match shape.split_first() {
        None => values.next().unwrap_or_default(),
        Some((&extent, rest)) => (0..extent).map(|_| nested(values, rest)).collect(),
    }
}
