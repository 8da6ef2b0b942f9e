//! The response to a prediction request.

use serde::Serialize;

use super::BadRequest;

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// For whom.
    pub user_id: u64,
    /// The items, in the order of the request.
    pub item_ids: &'a [u64],
    /// A score for each.
    pub scores: &'a [f32],
    /// Whether anything is known of the user.
    pub known_user: bool,
    /// Items of which nothing is known.
    pub unknown_items: usize,
    /// Milliseconds from the request to here.
    pub latency_ms: f64,
    /// The version that answered.
    pub model_version: &'a str,
}

#[derive(Serialize)]
struct Body<'a> {
    user_id: u64,
    predictions: Vec<Prediction>,
    ranked_items: Vec<u64>,
    latency_ms: f64,
    model_version: &'a str,
    known_user: bool,
    unknown_items: usize,
}

#[derive(Clone, Copy, Serialize)]
struct Prediction {
    item_id: u64,
    score: f32,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

/// The body of an answer; none where the scores are not one finite number for each item.
///
/// Predictions keep the order of the request; `ranked_items` has the best first, equal scores in that order.
pub fn answer(answer: &Answer<'_>) -> Option<Vec<u8>> {
    if answer.scores.len() != answer.item_ids.len() || answer.scores.iter().any(|score| !score.is_finite()) {
        return None;
    }
    let pairs = answer.item_ids.iter().zip(answer.scores);
    let predictions: Vec<_> = pairs
        .map(|(id, score)| Prediction {
            item_id: *id,
            score: *score,
        })
        .collect();
    let mut ranked = predictions.clone();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    let body = Body {
        user_id: answer.user_id,
        ranked_items: ranked.iter().map(|prediction| prediction.item_id).collect(),
        predictions,
        latency_ms: (answer.latency_ms * 1000.0).round() / 1000.0,
        model_version: answer.model_version,
        known_user: answer.known_user,
        unknown_items: answer.unknown_items,
    };
    let mut bytes = Vec::with_capacity(160 + answer.item_ids.len() * 64);
    serde_json::to_writer(&mut bytes, &body).ok()?;
    Some(bytes)
}

/// `{"error":{"code","message","field"}}`.
pub fn error_body(code: &str, message: &str, field: Option<&str>) -> Vec<u8> {
    serde_json::to_vec(&ErrorBody {
        error: ErrorFields { code, message, field },
    })
    .unwrap_or_default()
}

impl BadRequest {
    /// The body of the response.
    pub fn body(&self) -> Vec<u8> {
        error_body(self.code, &self.message, self.field.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: Answer<'_> = Answer {
        user_id: 7,
        item_ids: &[4, 5, 6],
        scores: &[0.25, 0.5, 0.25],
        known_user: true,
        unknown_items: 1,
        latency_ms: 1.23456,
        model_version: "3",
    };

    #[test]
    fn the_best_comes_first_and_equal_scores_keep_their_order() {
        let body = String::from_utf8(answer(&ANSWER).unwrap()).unwrap();
        assert_eq!(
            body,
            concat!(
                r#"{"user_id":7,"predictions":[{"item_id":4,"score":0.25},{"item_id":5,"score":0.5},"#,
                r#"{"item_id":6,"score":0.25}],"ranked_items":[5,4,6],"latency_ms":1.235,"#,
                r#""model_version":"3","known_user":true,"unknown_items":1}"#
            )
        );
    }

    #[test]
    fn scores_that_cannot_be_ranked_are_not_answered() {
        assert_eq!(
            answer(&Answer {
                scores: &[0.1],
                ..ANSWER
            }),
            None
        );
        assert_eq!(
            answer(&Answer {
                scores: &[0.1, f32::NAN, 0.2],
                ..ANSWER
            }),
            None
        );
    }

    #[test]
    fn an_error_has_code_message_and_field() {
        assert_eq!(
            String::from_utf8(error_body("c", "m \"x\"", Some("f"))).unwrap(),
            r#"{"error":{"code":"c","message":"m \"x\"","field":"f"}}"#
        );
    }
}
