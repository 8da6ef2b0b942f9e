//! Inference by a model in the worker pool.

use crate::bindings::tidegate::function::inference;
use crate::{Error, Failure};

pub use inference::{Datatype, Response, Tensor};

impl Tensor {
    /// A tensor of 32-bit floats.
    pub fn f32(name: &str, shape: &[usize], values: &[f32]) -> Self {
        Self::new(
            name,
            Datatype::Fp32,
            shape,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    /// A tensor of 64-bit integers.
    pub fn i64(name: &str, shape: &[usize], values: &[i64]) -> Self {
        Self::new(
            name,
            Datatype::Int64,
            shape,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    /// A tensor of row-major, little-endian bytes.
    pub fn new(name: &str, datatype: Datatype, shape: &[usize], data: Vec<u8>) -> Self {
        let shape = shape.iter().map(|&axis| axis as u64).collect();
        Self {
            name: name.to_owned(),
            datatype,
            shape,
            data,
        }
    }

    /// The values, where they are 32-bit floats.
    pub fn to_f32(&self) -> Result<Vec<f32>, Failure> {
        self.values(Datatype::Fp32, f32::from_le_bytes)
    }

    /// The values, where they are 64-bit integers.
    pub fn to_i64(&self) -> Result<Vec<i64>, Failure> {
        self.values(Datatype::Int64, i64::from_le_bytes)
    }

    fn values<T, const N: usize>(
        &self,
        wanted: Datatype,
        decode: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Failure> {
        if self.datatype != wanted {
            let (name, found) = (&self.name, self.datatype);
            return Err(Failure::reject(format!(
                "tensor `{name}` holds {found:?}, wanted is {wanted:?}"
            )));
        }
        Ok(self
            .data
            .as_chunks::<N>()
            .0
            .iter()
            .map(|bytes| decode(*bytes))
            .collect())
    }
}

impl Response {
    /// The output of this name.
    pub fn output(&self, name: &str) -> Result<&Tensor, Failure> {
        self.outputs
            .iter()
            .find(|tensor| tensor.name == name)
            .ok_or_else(|| {
                let found: Vec<_> = self.outputs.iter().map(|tensor| tensor.name.as_str()).collect();
                Failure::reject(format!(
                    "the model has no output `{name}`, found are `{}`",
                    found.join("`, `")
                ))
            })
    }
}

/// Asks `model`: a name, with `@` and an alias or a version where it is not the alias `champion`.
pub async fn infer(model: &str, inputs: Vec<Tensor>) -> Result<Response, Error> {
    inference::infer(model.to_owned(), inputs).await
}

/// As [`infer`], for a key such as a user's id: where two versions share the requests of an alias, a key is always answered by
/// one of them. Without a key, all that a run asks is.
pub async fn infer_for(model: &str, key: &str, inputs: Vec<Tensor>) -> Result<Response, Error> {
    inference::infer_for(model.to_owned(), key.to_owned(), inputs).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_tensor_gives_back_what_it_was_made_of() {
        let tensor = Tensor::f32("x", &[2, 1], &[1.5, -2.0]);
        assert_eq!(tensor.shape, [2, 1]);
        assert_eq!(tensor.to_f32().unwrap(), [1.5, -2.0]);
        assert!(tensor.to_i64().is_err());
        assert_eq!(Tensor::i64("id", &[1], &[-7]).to_i64().unwrap(), [-7]);
    }

    #[test]
    fn a_missing_output_names_what_was_found() {
        let response = Response {
            model_version: "1".into(),
            outputs: vec![Tensor::f32("score", &[0], &[])],
        };
        assert!(response.output("score").is_ok());
        assert!(response.output("logit").unwrap_err().reason().contains("`score`"));
    }
}
