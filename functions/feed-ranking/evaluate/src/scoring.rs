//! The test split, scored by a model in the worker pool.

use feed_ranking::evaluate::scoring::{PAIRS, Pairs};
use feed_ranking::features::Part;
use feed_ranking::features::training::{Manifest, TrainingReader};
use feed_ranking::host::Object;
use feed_ranking::train::Location;
use tidegate_ml::reference::ModelRef;
use tidegate_sdk::inference::{Tensor, infer};
use tidegate_sdk::prelude::*;

use crate::{Scores, ScoringError};

/// The test split of a training set.
pub(crate) struct Split<'a> {
    dataset: &'a Location,
    manifest: &'a Manifest,
}

impl<'a> Split<'a> {
    pub(crate) fn new(dataset: &'a Location, manifest: &'a Manifest) -> Self {
        Self { dataset, manifest }
    }

    /// The scores that a model gives.
    pub(crate) async fn score(&self, model: &ModelRef) -> Result<Scores, Failure> {
        let key = format!("{}{}", self.dataset.prefix, Part::Test.file());
        let object = Object::open(&self.dataset.bucket, &key)?;
        let mut reader = TrainingReader::open(object, &self.manifest.signature())?;
        let (total, mut done) = (reader.rows(), 0);
        let reference = model.to_string();
        let mut scores = Scores::default();
        while let Some(batch) = reader.next_batch()? {
            for pairs in batch.pairs() {
                let answer = ask(&reference, &pairs).await?;
                scores.add(&pairs, &answer).map_err(failure)?;
                done += pairs.user_id.len() as u64;
                log::progress(done, total, "rows");
            }
        }
        Ok(scores)
    }
}

async fn ask(model: &str, pairs: &Pairs<'_>) -> Result<Vec<f32>, Failure> {
    let count = pairs.user_id.len();
    debug_assert!(count <= PAIRS);
    let width = |values: &[f32]| values.len() / count.max(1);
    let inputs = vec![
        Tensor::i64("user_id", &[count], pairs.user_id),
        Tensor::f32("user_features", &[count, width(pairs.user)], pairs.user),
        Tensor::i64("item_id", &[count], pairs.item_id),
        Tensor::f32("item_features", &[count, width(pairs.item)], pairs.item),
    ];
    infer(model, inputs).await?.output("score")?.to_f32()
}

fn failure(error: ScoringError) -> Failure {
    Failure::reject(error.to_string())
}
