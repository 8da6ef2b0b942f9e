//! The answer to an inference request: JSON, and behind it the outputs that were wanted as bytes.

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use serde::ser::Serializer;
use serde_json::{Map, Value, json};

use super::datatype::Datatype;
use super::request::Form;
use super::{HEADER_LENGTH, OCTETS};
use crate::api::error::ApiError;
use crate::inference::Failure;
use crate::inference::open_inference::infer_parameter::ParameterChoice;
use crate::inference::open_inference::model_infer_response::InferOutputTensor;
use crate::inference::open_inference::{InferParameter, ModelInferResponse};

#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    parameters: Map<String, Value>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [i64],
    #[serde(skip_serializing_if = "Map::is_empty")]
    parameters: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

struct Data<'a>(Datatype, &'a [u8]);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.write(self.1, to)
    }
}

/// Writes an answer; `id` is the request's.
pub(super) fn write(answer: &ModelInferResponse, id: &str, form: &Form) -> Result<Response, ApiError> {
    let pairs = answer.outputs.iter().zip(&answer.raw_output_contents);
    let outputs = pairs.map(|(output, raw)| told(output, raw, form));
    let json = serde_json::to_vec(&Answer {
        model_name: &answer.model_name,
        model_version: &answer.model_version,
        id,
        parameters: from_message(answer.parameters.iter()),
        outputs: outputs.collect::<Result<_, ApiError>>()?,
    });
    let mut body = json.map_err(|error| ApiError::bad(format!("{error}; ask for `binary_data`")))?;
    let length = body.len();
    let binary = answer.outputs.iter().zip(&answer.raw_output_contents);
    for (_, raw) in binary.filter(|(output, _)| form.is_binary(&output.name)) {
        body.extend_from_slice(raw);
    }
    let any = answer.outputs.iter().any(|output| form.is_binary(&output.name));
    let mut response = Bytes::from(body).into_response();
    let kind = if any { OCTETS } else { "application/json" };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if any {
        headers.insert(HeaderName::from_static(HEADER_LENGTH), HeaderValue::from(length));
    }
    Ok(response)
}

fn told<'a>(output: &'a InferOutputTensor, raw: &'a Bytes, form: &Form) -> Result<Output<'a>, ApiError> {
    let unknown = |error| Failure::Unavailable(format!("the worker's output `{}`: {error}", output.name));
    let datatype = Datatype::named(&output.datatype).map_err(unknown)?;
    let mut parameters = from_message(output.parameters.iter());
    let data = if form.is_binary(&output.name) {
        parameters.insert("binary_data_size".into(), raw.len().into());
        None
    } else {
        Some(Data(datatype, raw))
    };
    Ok(Output {
        name: &output.name,
        datatype: datatype.name(),
        shape: &output.shape,
        parameters,
        data,
    })
}

fn from_message<'a>(
    parameters: impl Iterator<Item = (&'a String, &'a InferParameter)>,
) -> Map<String, Value> {
    let value = |parameter: &InferParameter| match parameter.parameter_choice.as_ref()? {
        ParameterChoice::BoolParam(flag) => Some(json!(flag)),
        ParameterChoice::Int64Param(whole) => Some(json!(whole)),
        ParameterChoice::Uint64Param(whole) => Some(json!(whole)),
        ParameterChoice::DoubleParam(number) => Some(json!(number)),
        ParameterChoice::StringParam(text) => Some(json!(text)),
    };
    let parameters = parameters.filter_map(|(name, parameter)| Some((name.clone(), value(parameter)?)));
    parameters.collect()
}
