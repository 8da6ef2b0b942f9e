//! What a model answered, as numbers that can be compared: the first of its outputs that are floats.

use super::open_inference::ModelInferResponse;

/// Numbers of one answer that are looked at.
const MOST: usize = 256;

/// The scores of an answer; none where no output is of floats.
pub(super) fn scores(answer: &ModelInferResponse) -> Vec<f32> {
    let mut outputs = answer.outputs.iter().zip(&answer.raw_output_contents);
    let found = outputs.find_map(|(output, raw)| match output.datatype.as_str() {
        "FP32" => Some(numbers(raw, f32::from_le_bytes)),
        "FP64" => Some(numbers(raw, |bytes| f64::from_le_bytes(bytes) as f32)),
        _ => None,
    });
    found.unwrap_or_default()
}

fn numbers<const N: usize>(raw: &[u8], read: fn([u8; N]) -> f32) -> Vec<f32> {
    let (numbers, _rest) = raw.as_chunks::<N>();
    numbers.iter().take(MOST).map(|bytes| read(*bytes)).collect()
}

/// By how much the scores of two answers differ on average; none where they are not of one length, or empty.
pub(super) fn difference(one: &[f32], other: &[f32]) -> Option<f64> {
    if one.is_empty() || one.len() != other.len() {
        return None;
    }
    let differences = one
        .iter()
        .zip(other)
        .map(|(one, other)| f64::from((one - other).abs()));
    Some(differences.sum::<f64>() / one.len() as f64)
}
