//! Trees as a whole: on made-up data, in memory.

use serde_json::json;

use super::*;
use crate::train::pace::Pace;
use crate::train::testing::{MemorySession, columns};

fn config(more: Value) -> Value {
    let mut config = json!({
        "model": "t", "dataset": {"bucket": "data", "prefix": "d"}, "output": {"bucket": "models", "prefix": "t"},
        "features": ["x", "y", "noise"], "trees": 30,
    });
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    config
}

fn ensemble(
    kind: &str,
    config: &Value,
    session: &MemorySession,
) -> Result<(Ensemble, epochs::Measured), JobError> {
    let config = TreesConfig::parse(kind, config).unwrap();
    let [train, validation] = config.source.read(session)?;
    let mut ensemble = Ensemble::new(config.clone(), train, validation);
    let mut state = ensemble.resume(session)?;
    let plan = Plan {
        max_epochs: config.trees,
        patience: config.patience,
        batch_size: usize::MAX,
        seed: config.seed,
        pace: Pace::Steps(3),
        unit: "tree",
    };
    let measured = epochs::train(&mut ensemble, &mut state, &plan, session)?;
    Ok((
        ensemble,
        epochs::Measured {
            seconds: 0.0,
            ..measured
        },
    ))
}

#[test]
fn both_kinds_learn_what_no_line_can_part() {
    for kind in [BOOSTING, FOREST] {
        let session = MemorySession::with_tables([2000, 600]);
        let outputs = run(kind, &config(json!({})), &session).unwrap();
        let auc = outputs["metrics"]["validation"]["auc"].as_f64().unwrap();
        assert!(auc > 0.87, "{kind}: {outputs}");
        assert_eq!(
            outputs["history"].as_array().unwrap().len() as u64,
            outputs["epochs"].as_u64().unwrap()
        );
        assert!(
            session
                .objects
                .lock()
                .unwrap()
                .contains_key("models/t/model.onnx"),
            "{kind}"
        );
    }
}

#[test]
fn growing_interrupted_at_any_tree_ends_in_the_same_bits() {
    for kind in [BOOSTING, FOREST] {
        let config = config(json!({"trees": 14, "features_per_split": 0.67}));
        let whole = ensemble(kind, &config, &MemorySession::with_tables([500, 200])).unwrap();
        let mut session = MemorySession::with_tables([500, 200]);
        let mut attempts = 0;
        let ended = loop {
            attempts += 1;
            session.until(5);
            match ensemble(kind, &config, &session) {
                Err(JobError::Abandoned) => assert!(attempts < 50),
                other => break other.unwrap(),
            }
        };
        assert!(attempts > 2);
        assert_eq!(whole.1, ended.1);
        assert!(
            whole.0.exported().to_onnx() == ended.0.exported().to_onnx(),
            "{kind}"
        );
    }
}

#[test]
fn boosting_stops_when_validation_gets_no_better() {
    let config = config(json!({"trees": 2000, "patience": 4, "learning_rate": 0.5}));
    let (ensemble, measured) = ensemble(BOOSTING, &config, &MemorySession::with_tables([400, 200])).unwrap();
    assert_eq!(measured.epochs, measured.best_epoch + 4);
    assert_eq!(ensemble.exported().trees.len(), measured.best_epoch);
}

#[test]
fn every_mistake_is_told_at_once() {
    let wrong = config(json!({"features": ["x", "x"], "trees": 0, "l2": 1, "class_weights": [1]}));
    let told = TreesConfig::parse(FOREST, &wrong).unwrap_err().to_string();
    for part in [
        "`features`: found [\"x\",\"x\"]",
        "`trees`: found 0",
        "unknown key `l2`",
        "`class_weights`: found [1]",
    ] {
        assert!(told.contains(part), "`{part}` is not in: {told}");
    }
}

#[test]
fn data_that_is_not_as_it_must_be_is_refused_with_the_place() {
    let refused = |file: Vec<u8>| {
        let session = MemorySession::with_tables([10, 10]);
        session
            .objects
            .lock()
            .unwrap()
            .insert("data/d/validation.parquet".into(), file.into());
        run(BOOSTING, &config(json!({})), &session)
            .unwrap_err()
            .to_string()
    };
    let column = |name: &'static str, value: f32| (name, vec![0.5, value]);
    let said = refused(columns(&[("x", vec![1.0]), ("label", vec![0.0])]));
    assert!(
        said.contains("`validation.parquet` lacks column(s) `y`, `noise`; found `x`, `label`"),
        "{said}"
    );
    let said = refused(columns(&[
        column("x", f32::NAN),
        column("y", 1.0),
        column("noise", 1.0),
        ("label", vec![0.0, 1.0]),
    ]));
    assert!(said.contains("has NaN in column `x`, row 1"), "{said}");
    let said = refused(columns(&[
        column("x", 1.0),
        column("y", 1.0),
        column("noise", 1.0),
        ("label", vec![0.0, 2.0]),
    ]));
    assert!(said.contains("has 2 in column `label`, row 1"), "{said}");
    let said = refused(columns(&[
        column("x", 1.0),
        column("y", 1.0),
        column("noise", 1.0),
        ("label", vec![1.0, 1.0]),
    ]));
    assert!(said.contains("has 2 rows with `label` 1 among 2"), "{said}");
    assert!(refused(b"cut".to_vec()).contains("cannot be read"));
}
