//! The network as a whole: on made-up data, in memory.

use burn::backend::{Autodiff, NdArray};
use serde_json::json;

use super::*;
use crate::train::epochs::Measured;
use crate::train::pace::Pace;
use crate::train::testing::MemorySession;

type Cpu = Autodiff<NdArray<f32>>;

fn config(more: Value) -> Value {
    let mut config = json!({
        "model": "m", "dataset": {"bucket": "data", "prefix": "d"}, "output": {"bucket": "models", "prefix": "m"},
        "features": ["x", "y", "noise"], "hidden": [32, 16], "batch_size": 128, "max_epochs": 12, "dropout": 0.1,
        "learning_rate": 0.01, "device": "cpu",
    });
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    config
}

fn train(config: &Value, session: &MemorySession, pace: Pace) -> Result<(Measured, Vec<u8>), JobError> {
    let config = MlpConfig::parse(config).unwrap();
    let [train, validation] = config.source.read(session)?;
    let devices = vec![Default::default(); config.replicas];
    let mut trainer = Trainer::<Cpu>::new(config.clone(), train, validation, devices)?;
    let mut state = trainer.resume(session)?;
    let measured = epochs::train(&mut trainer, &mut state, &config.plan(pace), session)?;
    Ok((
        Measured {
            seconds: 0.0,
            ..measured
        },
        trainer.exported().to_onnx(),
    ))
}

#[test]
fn the_network_learns_what_no_line_can_part_and_tells_of_every_epoch() {
    let session = MemorySession::with_tables([2000, 600]);
    let outputs = run(&config(json!({})), &session).unwrap();
    assert!(
        outputs["metrics"]["validation"]["auc"].as_f64().unwrap() > 0.87,
        "{outputs}"
    );
    let told = session.reported.lock().unwrap().clone().unwrap();
    assert_eq!(json!(told.history), outputs["history"]);
    assert_eq!(told.history.len() as u64, outputs["epochs"].as_u64().unwrap());
}

#[test]
fn training_interrupted_at_any_step_ends_in_the_same_bits() {
    let config = config(json!({"max_epochs": 3}));
    let tables = || MemorySession::with_tables([700, 200]);
    let whole = train(&config, &tables(), Pace::Steps(1000)).unwrap();
    for (every, patience) in [(1, 2), (2, 7), (5, 9)] {
        let mut session = tables();
        let mut attempts = 0;
        let ended = loop {
            attempts += 1;
            session.until(patience);
            match train(&config, &session, Pace::Steps(every)) {
                Err(JobError::Abandoned) => assert!(attempts < 200),
                other => break other.unwrap(),
            }
        };
        assert!(attempts > 1);
        assert_eq!(
            whole.0, ended.0,
            "checkpoint every {every}, killed after {patience}"
        );
        assert!(
            whole.1 == ended.1,
            "checkpoint every {every}, killed after {patience}"
        );
    }
}

#[test]
fn replicas_that_share_each_step_learn_the_same_and_end_in_the_same_bits_each_time() {
    let gang = config(json!({"replicas": 3, "batch_size": 100}));
    let session = || MemorySession::with_tables([2000, 600]);
    let (measured, model) = train(&gang, &session(), Pace::Steps(1000)).unwrap();
    assert!(measured.validation_auc > 0.87, "{measured:?}");
    let again = train(&gang, &session(), Pace::Steps(1000)).unwrap();
    assert!(measured == again.0 && model == again.1);
}

#[test]
fn another_seed_ends_elsewhere_and_the_same_one_in_the_same_bits() {
    let model = |seed: u64| {
        let config = config(json!({"max_epochs": 2, "seed": seed}));
        train(
            &config,
            &MemorySession::with_tables([300, 100]),
            Pace::Steps(1000),
        )
        .unwrap()
        .1
    };
    assert!(model(1) == model(1));
    assert!(model(1) != model(2));
}

#[test]
fn every_mistake_is_told_at_once() {
    let wrong = config(
        json!({"hidden": [], "dropout": 1, "label": "", "layers": 3, "batch_size": 1, "replicas": 65}),
    );
    let told = MlpConfig::parse(&wrong).unwrap_err().to_string();
    for part in [
        "`hidden`: found []",
        "`dropout`: found 1",
        "`label`: found \"\"",
        "unknown key `layers`",
        "`batch_size`: found 1",
        "`replicas`: found 65, allowed is a whole number from 1 to 64",
    ] {
        assert!(told.contains(part), "`{part}` is not in: {told}");
    }
}
