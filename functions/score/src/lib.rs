//! `score`: events in, events out. Every `Measured` is scored by a model, and a `Scored` tells of it.
//!
//! Events that wait are taken together: one request to the model for all of a batch. What they emit commits with the mark
//! that they are handled, so that each is scored once, whatever fails meanwhile. An event that the model does not take is
//! found by halving, and ends alone as a dead letter.

use tidegate_sdk::inference::{Tensor, infer};
use tidegate_sdk::prelude::*;
use tidegate_sdk::serde_json::json;

tidegate_sdk::batch_function!(handle);

/// The data of `Measured`.
#[derive(Deserialize)]
struct Measured {
    features: Vec<f32>,
}

async fn handle(events: Vec<Event>) -> Result<(), Failure> {
    let rows: Vec<Measured> = events.iter().map(Event::json).collect::<Result<_, _>>()?;
    let inputs = vec![tensor(&config::required("input")?, &rows)?];
    let answer = infer(&config::required("model")?, inputs).await?;
    let scores = answer.output(&config::required("output")?)?.to_f32()?;
    if scores.len() != events.len() {
        let (given, asked) = (scores.len(), events.len());
        return Err(Failure::reject(format!(
            "the model gave {given} scores for {asked} events"
        )));
    }
    for (event, score) in events.iter().zip(scores) {
        let scored = json!({ "event": event.id, "score": score, "model_version": answer.model_version });
        events::emit_about("Scored", &event.id, &scored)?;
    }
    Ok(())
}

/// The features of all events as one tensor, a row for each.
fn tensor(name: &str, rows: &[Measured]) -> Result<Tensor, Failure> {
    let width = rows.first().map_or(0, |row| row.features.len());
    if let Some(other) = rows.iter().find(|row| row.features.len() != width) {
        let found = other.features.len();
        return Err(Failure::reject(format!(
            "found rows of {width} and of {found} features"
        )));
    }
    let values: Vec<f32> = rows.iter().flat_map(|row| row.features.iter().copied()).collect();
    Ok(Tensor::f32(name, &[rows.len(), width], &values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_width_are_one_tensor() {
        let row = |features: &[f32]| Measured {
            features: features.to_vec(),
        };
        let Ok(tensor) = tensor("x", &[row(&[1.0, 2.0]), row(&[3.0, 4.0])]) else {
            panic!("no tensor");
        };
        assert_eq!((tensor.shape.as_slice(), tensor.data.len()), (&[2, 2][..], 16));
        assert!(super::tensor("x", &[row(&[1.0]), row(&[1.0, 2.0])]).is_err());
    }
}
