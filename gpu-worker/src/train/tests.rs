//! Training as a whole: on a small made-up set, in memory.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::backend::{Autodiff, NdArray};
use bytes::Bytes;
use serde_json::json;

use super::config::TrainConfig;
use super::dataset::{Manifest, Split, normalise};
use super::rng::Rng;
use super::trainer::{Encoded, Measured};
use super::*;
use crate::jobs::session::{JobError, Progress, Session};

type Cpu = Autodiff<NdArray<f32>>;

/// A session in memory whose job is abandoned after a number of questions whether it is.
#[derive(Default)]
pub struct MemorySession {
    pub objects: Mutex<HashMap<String, Bytes>>,
    checkpoint: Mutex<Option<Bytes>>,
    questions: AtomicUsize,
    patience: Option<usize>,
}

impl MemorySession {
    fn until(&mut self, questions: usize) {
        self.questions = AtomicUsize::new(0);
        self.patience = Some(questions);
    }
}

impl Session for MemorySession {
    fn read(&self, bucket: &str, key: &str) -> Result<Bytes, JobError> {
        let name = format!("{bucket}/{key}");
        let found = self.objects.lock().unwrap().get(&name).cloned();
        found.ok_or_else(|| JobError::Invalid(format!("object `{name}` does not exist")))
    }
    fn download(&self, bucket: &str, key: &str) -> Result<File, JobError> {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&self.read(bucket, key)?).unwrap();
        file.rewind().unwrap();
        Ok(file)
    }
    fn write(&self, bucket: &str, key: &str, content: Bytes) -> Result<(), JobError> {
        self.objects
            .lock()
            .unwrap()
            .insert(format!("{bucket}/{key}"), content);
        Ok(())
    }
    fn load_checkpoint(&self) -> Result<Option<Bytes>, JobError> {
        Ok(self.checkpoint.lock().unwrap().clone())
    }
    fn save_checkpoint(&self, content: Bytes) -> Result<(), JobError> {
        *self.checkpoint.lock().unwrap() = Some(content);
        Ok(())
    }
    fn report(&self, _: Progress) {}
    fn abandoned(&self) -> bool {
        let asked = self.questions.fetch_add(1, Ordering::Relaxed);
        self.patience.is_some_and(|patience| asked >= patience)
    }
}

pub fn config() -> TrainConfig {
    TrainConfig::parse(&json!({
        "model": "ranker",
        "dataset": {"bucket": "data", "prefix": "features/d/"},
        "output": {"bucket": "models", "prefix": "ranker/m/"},
        "embedding_dim": 8, "towers": [16, 8], "batch_size": 64, "max_epochs": 4, "patience": 2,
        "learning_rate": 0.01, "id_dropout": 0.3, "dropout": 0.2, "device": "cpu",
    }))
    .unwrap()
}

pub fn manifest() -> Manifest {
    Manifest::parse(
        &serde_json::to_vec(&json!({
            "dataset": "d", "label": "click", "digest": "0123",
            "user_features": ["rate", "count"], "item_features": ["rate"],
            "normalisation": {"user": {"mean": [0.5, 3.0], "std": [0.2, 2.0]}, "item": {"mean": [0.4], "std": [0.0]}},
            "rows": {"train": 700, "validation": 200, "test": 0},
        }))
        .unwrap(),
    )
    .unwrap()
}

/// Rows whose label follows from a feature of either side.
pub fn split(rows: usize, seed: u64) -> Split {
    let mut rng = Rng::derive(&[seed]);
    let mut split = Split::default();
    for _ in 0..rows {
        let (user, item) = (rng.uniform(), rng.uniform());
        split.user_id.push(rng.below(20) as i64);
        split.item_id.push(rng.below(30) as i64 - 5);
        split.user.extend([user, rng.uniform() * 6.0]);
        split.item.push(item);
        split
            .label
            .push(f32::from(u8::from(user + item + 0.3 * rng.normal() > 1.0)));
    }
    normalise(&mut split.user, &manifest().normalisation.user);
    normalise(&mut split.item, &manifest().normalisation.item);
    split
}

pub fn set(config: &TrainConfig) -> TrainingSet {
    TrainingSet::encode(manifest(), split(700, 1), split(200, 2), config.min_count)
}

fn train(config: &TrainConfig, session: &MemorySession, pace: Pace) -> Result<(Measured, Vec<u8>), JobError> {
    let set = set(config);
    let mut trainer = set.trainer::<Cpu>(config, Default::default()).with_pace(pace);
    trainer.resume(session)?;
    let measured = trainer.run(&set.train, &set.validation, session)?;
    Ok((
        Measured {
            seconds: 0.0,
            ..measured
        },
        ranker(config, &set, &trainer).to_onnx(),
    ))
}

#[test]
fn training_learns_what_the_features_tell() {
    let (measured, _) = train(&config(), &MemorySession::default(), Pace::Steps(1000)).unwrap();
    assert!(measured.validation_auc > 0.85, "{measured:?}");
    assert!(
        measured.validation_log_loss < 0.5 && measured.train_log_loss < 0.6,
        "{measured:?}"
    );
}

#[test]
fn training_interrupted_at_any_step_ends_in_the_same_bits() {
    let config = config();
    let whole = train(&config, &MemorySession::default(), Pace::Steps(1000)).unwrap();
    for (every, patience) in [(1, 1), (1, 7), (3, 5), (4, 10), (5, 13), (2, 3)] {
        let mut session = MemorySession::default();
        let mut attempts = 0;
        let ended = loop {
            attempts += 1;
            session.until(patience.max(every + 1));
            match train(&config, &session, Pace::Steps(every)) {
                Err(JobError::Abandoned) => assert!(attempts < 200),
                other => break other.unwrap(),
            }
        };
        assert!(attempts > 1);
        assert_eq!(
            whole.0, ended.0,
            "metrics, checkpoint every {every}, killed after {patience}"
        );
        assert!(
            whole.1 == ended.1,
            "model, checkpoint every {every}, killed after {patience}"
        );
    }
}

#[test]
fn another_seed_ends_elsewhere() {
    let other = TrainConfig { seed: 43, ..config() };
    let a = train(&config(), &MemorySession::default(), Pace::Steps(1000)).unwrap();
    let b = train(&other, &MemorySession::default(), Pace::Steps(1000)).unwrap();
    assert!(a.1 != b.1);
}

#[test]
fn a_checkpoint_of_another_job_is_not_taken_up() {
    let session = MemorySession::default();
    train(&TrainConfig { seed: 43, ..config() }, &session, Pace::Steps(3)).unwrap();
    let fresh = train(&config(), &MemorySession::default(), Pace::Steps(3)).unwrap();
    let after = train(&config(), &session, Pace::Steps(3)).unwrap();
    assert_eq!(fresh.0, after.0);
}

#[test]
fn training_stops_when_validation_gets_no_better() {
    let config = TrainConfig {
        max_epochs: 200,
        patience: 2,
        ..config()
    };
    let (measured, _) = train(&config, &MemorySession::default(), Pace::Steps(1000)).unwrap();
    assert!(measured.epochs < 200, "{measured:?}");
    assert_eq!(measured.epochs, measured.best_epoch + 2);
}

#[test]
fn a_loss_that_is_no_number_fails_for_good_and_names_the_step() {
    let config = config();
    let mut set = set(&config);
    set.train
        .split
        .user
        .iter_mut()
        .for_each(|value| *value = f32::MAX);
    let mut trainer = set.trainer::<Cpu>(&config, Default::default());
    let error = trainer
        .run(&set.train, &set.validation, &MemorySession::default())
        .unwrap_err();
    assert!(matches!(error, JobError::Invalid(_)));
    assert!(error.to_string().contains("in step 1 of epoch 1"), "{error}");
}

#[test]
fn scores_are_those_of_the_best_epoch() {
    let config = config();
    let set = set(&config);
    let mut trainer = set.trainer::<Cpu>(&config, Default::default());
    let measured = trainer
        .run(&set.train, &set.validation, &MemorySession::default())
        .unwrap();
    let logits = trainer.logits(&Encoded::new(split(200, 2), &set.users, &set.items));
    let auc = metrics::auc(&logits, &set.validation.split.label).unwrap();
    assert_eq!(auc, measured.validation_auc);
}
