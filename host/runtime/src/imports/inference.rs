//! `inference`: a model in the worker pool.

use wasmtime::component::Accessor;

use super::bindings::tidegate::function::inference;
use super::{Error, Imports, at_most};
use crate::inference::{Datatype, InferError, Tensor};
use crate::sandbox::{Call, Guest};

/// Tensors in one request.
const TENSORS: usize = 64;

impl inference::Host for Guest {}

impl<T: Send + 'static> inference::HostWithStore<T> for Imports {
    async fn infer(
        accessor: &Accessor<T, Self>,
        model: String,
        inputs: Vec<inference::Tensor>,
    ) -> wasmtime::Result<Result<inference::Response, Error>> {
        let call = Guest::call_of(accessor)?;
        Ok(call.infer(&model, None, inputs).await)
    }

    async fn infer_for(
        accessor: &Accessor<T, Self>,
        model: String,
        key: String,
        inputs: Vec<inference::Tensor>,
    ) -> wasmtime::Result<Result<inference::Response, Error>> {
        let call = Guest::call_of(accessor)?;
        Ok(call.infer(&model, Some(key), inputs).await)
    }
}

impl Call {
    async fn infer(
        &self,
        model: &str,
        key: Option<String>,
        inputs: Vec<inference::Tensor>,
    ) -> Result<inference::Response, Error> {
        let name = model.split('@').next().unwrap_or(model);
        self.spec
            .grants
            .allows_infer(&self.spec.name, name)
            .map_err(Error::Denied)?;
        at_most("tensors", inputs.len(), TENSORS)?;
        let inputs = inputs.into_iter().map(checked).collect::<Result<_, _>>()?;
        let asking = self.services.inference.infer(model, key, inputs);
        let response = match self.event.context() {
            Some(context) => tidegate_trace::within(context, asking).await?,
            None => asking.await?,
        };
        let outputs = response.outputs.into_iter().map(into_wit).collect();
        Ok(inference::Response {
            model_version: response.model_version,
            outputs,
        })
    }
}

impl From<InferError> for Error {
    fn from(error: InferError) -> Self {
        match error {
            InferError::NotFound(text) => Self::NotFound(text),
            InferError::Invalid(text) => Self::Invalid(text),
            InferError::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

fn checked(tensor: inference::Tensor) -> Result<Tensor, Error> {
    let datatype = match tensor.datatype {
        inference::Datatype::Fp32 => Datatype::Fp32,
        inference::Datatype::Fp64 => Datatype::Fp64,
        inference::Datatype::Int32 => Datatype::Int32,
        inference::Datatype::Int64 => Datatype::Int64,
        inference::Datatype::Boolean => Datatype::Bool,
        inference::Datatype::Uint8 => Datatype::Uint8,
    };
    let expected = tensor
        .shape
        .iter()
        .try_fold(datatype.size(), |size, side| size.checked_mul(*side));
    if expected != Some(tensor.data.len() as u64) {
        return Err(Error::Invalid(format!(
            "tensor `{}`: found {} bytes, expected shape {:?} of {}",
            tensor.name,
            tensor.data.len(),
            tensor.shape,
            datatype.name()
        )));
    }
    Ok(Tensor {
        name: tensor.name,
        datatype,
        shape: tensor.shape,
        data: tensor.data.into(),
    })
}

fn into_wit(tensor: Tensor) -> inference::Tensor {
    let datatype = match tensor.datatype {
        Datatype::Fp32 => inference::Datatype::Fp32,
        Datatype::Fp64 => inference::Datatype::Fp64,
        Datatype::Int32 => inference::Datatype::Int32,
        Datatype::Int64 => inference::Datatype::Int64,
        Datatype::Bool => inference::Datatype::Boolean,
        Datatype::Uint8 => inference::Datatype::Uint8,
    };
    inference::Tensor {
        name: tensor.name,
        datatype,
        shape: tensor.shape,
        data: tensor.data.into(),
    }
}
