//! Training as a whole: on a small made-up set, in memory.

use burn::backend::{Autodiff, NdArray};
use serde_json::json;

use super::config::{Negatives, TrainConfig};
use super::dataset::{Manifest, Split};
use super::trainer::Encoded;
use super::*;
use crate::jobs::session::JobError;
use crate::train::epochs::Measured;
use crate::train::metrics;
use crate::train::pace::Pace;
use crate::train::rng::Rng;
use crate::train::scaling::normalise;
use crate::train::testing::MemorySession;

type Cpu = Autodiff<NdArray<f32>>;

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
    let (mut user_id, mut item_id) = (Vec::new(), Vec::new());
    let (mut users, mut items, mut label) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rows {
        let (user, item) = (rng.uniform(), rng.uniform());
        user_id.push(rng.below(20) as i64);
        item_id.push(rng.below(30) as i64 - 5);
        users.extend([user, rng.uniform() * 6.0]);
        items.push(item);
        label.push(f32::from(u8::from(user + item + 0.3 * rng.normal() > 1.0)));
    }
    normalise(&mut users, &manifest().normalisation.user);
    normalise(&mut items, &manifest().normalisation.item);
    Split {
        user_id: user_id.into(),
        item_id: item_id.into(),
        label: label.into(),
        user: users.into(),
        item: items.into(),
    }
}

pub fn set(config: &TrainConfig) -> TrainingSet {
    TrainingSet::encode(manifest(), split(700, 1), split(200, 2), config.min_count).unwrap()
}

fn train(config: &TrainConfig, session: &MemorySession, pace: Pace) -> Result<(Measured, Vec<u8>), JobError> {
    let set = set(config);
    let devices = vec![Default::default(); config.replicas];
    let mut trainer = set.trainer::<Cpu>(config, devices)?.with_pace(pace);
    trainer.resume(session)?;
    let measured = trainer.run(&set, session)?;
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
fn a_gang_ends_where_one_device_does_but_for_rounding_and_in_the_same_bits_however_often_it_is_interrupted() {
    let config = TrainConfig {
        batch_size: 65,
        ..config()
    };
    let (alone, _) = train(&config, &MemorySession::default(), Pace::Steps(1000)).unwrap();
    let config = TrainConfig {
        replicas: 3,
        ..config
    };
    let (whole, model) = train(&config, &MemorySession::default(), Pace::Steps(1000)).unwrap();
    let close = |one: f64, other: f64| (one - other).abs() < 1e-3;
    assert!(
        close(alone.train_log_loss, whole.train_log_loss)
            && close(alone.validation_auc, whole.validation_auc),
        "{alone:?}, {whole:?}"
    );
    let mut session = MemorySession::default();
    let ended = loop {
        session.until(7);
        match train(&config, &session, Pace::Steps(2)) {
            Err(JobError::Abandoned) => {}
            other => break other.unwrap(),
        }
    };
    assert!(whole == ended.0 && model == ended.1);
}

#[test]
fn negatives_that_are_drawn_end_in_the_same_bits_each_time_and_elsewhere_than_none() {
    let train_with = |negatives| {
        let config = TrainConfig {
            negatives,
            ..config()
        };
        train(&config, &MemorySession::default(), Pace::Steps(1000)).unwrap()
    };
    let none = train_with(Negatives::None);
    for negatives in [Negatives::InBatch, Negatives::Sampled] {
        let drawn = train_with(negatives);
        assert!(drawn.1 != none.1 && drawn.1 == train_with(negatives).1);
        assert!(drawn.0.validation_auc > 0.7, "{negatives:?}: {:?}", drawn.0);
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
    let mut trainer = set.trainer::<Cpu>(&config, Default::default()).unwrap();
    let error = trainer.run(&set, &MemorySession::default()).unwrap_err();
    assert!(matches!(
        error,
        JobError::Diverged {
            epoch: 1,
            step: 1,
            ..
        }
    ));
    assert!(error.to_string().contains("in step 1 of epoch 1"), "{error}");
}

#[test]
fn scores_are_those_of_the_best_epoch() {
    let config = config();
    let set = set(&config);
    let mut trainer = set.trainer::<Cpu>(&config, Default::default()).unwrap();
    let measured = trainer.run(&set, &MemorySession::default()).unwrap();
    let logits = trainer.logits(&Encoded::new(split(200, 2), &set.users, &set.items).unwrap());
    let auc = metrics::auc(&logits, &set.validation.split.label).unwrap();
    assert_eq!(auc, measured.validation_auc);
}
