//! Tensors to and from the Open Inference Protocol.

use std::collections::HashMap;

use tidegate_runtime::inference::{Datatype, InferError, InferResponse, Tensor};

use super::failure::Failure;
use super::open_inference::model_infer_request::InferInputTensor;
use super::open_inference::model_infer_response::InferOutputTensor;
use super::open_inference::model_repository_parameter::ParameterChoice;
use super::open_inference::{
    ModelInferRequest, ModelInferResponse, ModelRepositoryParameter, RepositoryModelLoadRequest,
};
use super::resolve::Resolved;
use crate::config::ModelConfig;

pub(super) fn request(tensors: Vec<Tensor>) -> ModelInferRequest {
    let mut request = ModelInferRequest::default();
    for tensor in tensors {
        request.inputs.push(InferInputTensor {
            name: tensor.name,
            datatype: tensor.datatype.name().to_owned(),
            shape: tensor
                .shape
                .iter()
                .map(|&extent| i64::try_from(extent).unwrap_or(i64::MAX))
                .collect(),
            ..Default::default()
        });
        request.raw_input_contents.push(tensor.data);
    }
    request
}

/// Asks for a model, whose file is read with a pass, and tells how it is to be run, where that is configured.
pub(super) fn load(resolved: &Resolved, config: ModelConfig, pass: String) -> RepositoryModelLoadRequest {
    let text = |text: String| ModelRepositoryParameter {
        parameter_choice: Some(ParameterChoice::StringParam(text)),
    };
    let number = |number: u64| ModelRepositoryParameter {
        parameter_choice: Some(ParameterChoice::Int64Param(
            i64::try_from(number).unwrap_or(i64::MAX),
        )),
    };
    let uri = format!("{}/{}", resolved.bucket, resolved.key);
    let mut parameters = HashMap::from([
        ("uri".to_owned(), text(uri)),
        ("pass".to_owned(), text(pass)),
        ("version".to_owned(), text(resolved.version.clone())),
    ]);
    if let Some(sha256) = &resolved.sha256 {
        parameters.insert("sha256".to_owned(), text(sha256.clone()));
    }
    if let Some(instances) = config.instances {
        let count = number(instances.count as u64);
        parameters.insert("instance_group_count".to_owned(), count);
        let kind = text(instances.kind.to_owned());
        parameters.insert("instance_group_kind".to_owned(), kind);
    }
    if let Some(batching) = config.batching {
        let delay = batching.max_queue_delay.as_micros();
        let delay = u64::try_from(delay).unwrap_or(u64::MAX);
        parameters.insert(
            "max_batch_size".to_owned(),
            number(batching.max_batch_size as u64),
        );
        parameters.insert("max_queue_delay_microseconds".to_owned(), number(delay));
    }
    if !config.padding.is_empty() {
        let padding = text(serde_json::json!(config.padding).to_string());
        parameters.insert("padding".to_owned(), padding);
    }
    RepositoryModelLoadRequest {
        model_name: resolved.name.clone(),
        parameters,
        ..Default::default()
    }
}

/// Whether the answer has raw contents for each of its outputs, as all that read it take for granted.
pub(super) fn complete(answer: &ModelInferResponse) -> Result<(), Failure> {
    let (told, sent) = (answer.outputs.len(), answer.raw_output_contents.len());
    if told == sent {
        return Ok(());
    }
    Err(Failure::Unavailable(format!(
        "the worker told of {told} outputs and sent {sent} raw contents"
    )))
}

pub(super) fn response(answer: ModelInferResponse) -> Result<InferResponse, InferError> {
    let outputs = answer.outputs.into_iter().zip(answer.raw_output_contents);
    let outputs = outputs
        .map(|(output, data)| output_tensor(output, data))
        .collect::<Result<_, _>>()?;
    Ok(InferResponse {
        model_version: answer.model_version,
        outputs,
    })
}

fn output_tensor(output: InferOutputTensor, data: bytes::Bytes) -> Result<Tensor, InferError> {
    let wrong =
        |what: String| InferError::Unavailable(format!("the worker's output `{}` {what}", output.name));
    let datatype = Datatype::from_name(&output.datatype).ok_or_else(|| {
        wrong(format!(
            "has the type `{}`, which is not known here",
            output.datatype
        ))
    })?;
    let shape: Option<Vec<u64>> = output
        .shape
        .iter()
        .map(|&extent| u64::try_from(extent).ok())
        .collect();
    let shape = shape.ok_or_else(|| wrong(format!("has the shape {:?}", output.shape)))?;
    let expected = shape
        .iter()
        .try_fold(datatype.size(), |all, &extent| all.checked_mul(extent));
    if expected != Some(data.len() as u64) {
        return Err(wrong(format!(
            "has {} bytes, which is not the shape {shape:?} of {}",
            data.len(),
            datatype.name()
        )));
    }
    Ok(Tensor {
        name: output.name,
        datatype,
        shape,
        data,
    })
}
