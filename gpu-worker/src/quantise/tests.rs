//! INT8 variants say nearly what their models say. Needs ONNX Runtime's library; says so where it is absent.

use serde_json::{Value, json};

use super::comparison::Comparison;
use crate::inference::runtime;
use crate::inference::tensors::Elements;
use crate::jobs::session::Session as _;
use crate::onnx::quantised::quantise;
use crate::onnx::ranker::{Dense, Ranker, Side};
use crate::onnx::tabular::DenseNet;
use crate::predict::scorer::Scorer;
use crate::train::rng::Rng;
use crate::train::scaling::Scaling;
use crate::train::testing::{MemorySession, columns};

const FEATURES: usize = 32;

fn has_runtime() -> bool {
    runtime::environment()
        .map_err(|reason| eprintln!("skipped: {reason}"))
        .is_ok()
}

fn numbers(rng: &mut Rng, count: usize, scale: f32) -> Vec<f32> {
    (0..count).map(|_| rng.normal() * scale).collect()
}

fn dense(rng: &mut Rng, inputs: usize, outputs: usize) -> Dense {
    Dense {
        weights: numbers(rng, inputs * outputs, 1.0 / (inputs as f32).sqrt()),
        bias: numbers(rng, outputs, 0.1),
    }
}

fn unscaled(width: usize) -> Scaling {
    Scaling {
        mean: vec![0.0; width],
        std: vec![1.0; width],
    }
}

/// A network with two wide layers, and rows for it with labels that follow from it.
fn session() -> MemorySession {
    let session = MemorySession::default();
    let mut rng = Rng::derive(&[7]);
    let model = DenseNet {
        name: "wide".to_owned(),
        scaling: unscaled(FEATURES),
        layers: vec![
            dense(&mut rng, FEATURES, 256),
            dense(&mut rng, 256, 256),
            dense(&mut rng, 256, 1),
        ],
        properties: vec![("label", "label".to_owned())],
    };
    let names: Vec<String> = (0..FEATURES).map(|at| format!("f{at}")).collect();
    let mut table: Vec<(&str, Vec<f32>)> = names
        .iter()
        .map(|name| (name.as_str(), numbers(&mut rng, 500, 1.0)))
        .collect();
    let label = (0..500).map(|row| f32::from(u8::from(table[0].1[row] > 0.0)));
    table.push(("label", label.collect()));
    let mut objects = session.objects.lock().unwrap();
    objects.insert("models/wide/1.onnx".to_owned(), model.to_onnx().into());
    objects.insert("data/rows/a.parquet".to_owned(), columns(&table).into());
    drop(objects);
    session
}

fn config() -> Value {
    let features: Vec<String> = (0..FEATURES).map(|at| format!("f{at}")).collect();
    json!({
        "model": "wide",
        "output": {"bucket": "models", "prefix": "wide/int8/"},
        "sample": {"bucket": "data", "prefix": "rows/"},
        "inputs": {"features": features},
        "label": "label",
        "rows": 300,
    })
}

#[test]
fn a_variant_is_a_quarter_as_large_says_nearly_the_same_and_is_registered() {
    if !has_runtime() {
        return;
    }
    let session = session();
    let outputs = super::run(&config(), &session).unwrap();
    let place = &outputs["model"];
    let file = session.read("models", place["key"].as_str().unwrap()).unwrap();
    assert_eq!(place["size"], file.len(), "{outputs}");
    let before = outputs["size_before"].as_u64().unwrap();
    assert!(file.len() as u64 * 10 < before * 3, "{} of {before}", file.len());
    assert_eq!(
        (&outputs["weights"], &outputs["rows"]),
        (&json!(2), &json!(300)),
        "{outputs}"
    );
    let metrics = &outputs["metrics"];
    let largest = metrics["difference.largest"].as_f64().unwrap();
    assert!(largest > 0.0 && largest < 0.05, "{outputs}");
    let auc = ["auc", "reference.auc"].map(|name| metrics[name].as_f64().unwrap());
    assert!((auc[0] - auc[1]).abs() < 0.02, "{outputs}");
    let registered = session.registered.lock().unwrap().take().unwrap();
    assert_eq!(registered["key"], place["key"]);
    assert_eq!(
        (&registered["of"], &registered["alias"], &registered["metrics"]),
        (&json!("1"), &json!("int8"), metrics)
    );
    let again = Scorer::of("wide", "int8", &file, 1).unwrap();
    assert_eq!(again.signature().properties["label"], "label");
    assert_eq!(again.signature().properties["quantised"], "int8");
}

#[test]
fn a_variant_that_says_something_else_is_refused_and_not_registered() {
    if !has_runtime() {
        return;
    }
    let session = session();
    let mut strict = config();
    strict["tolerance"] = json!(0.0);
    let said = super::run(&strict, &session).unwrap_err().to_string();
    assert!(
        said.contains("(300 rows, ") && said.contains("allowed by `tolerance` are 0"),
        "{said}"
    );
    assert!(session.registered.lock().unwrap().is_none());
    assert_eq!(session.list("models", "wide/int8/", None).unwrap(), [""; 0]);

    let mut wrong = config();
    wrong["inputs"] = json!({"features": ["f0"]});
    wrong["label"] = json!("truth");
    let said = super::run(&wrong, &session).unwrap_err().to_string();
    for part in [
        "`data/rows/a.parquet` does not fit model `wide`",
        "input `features` of shape [N, 32] cannot be made of 1 column(s)",
        "column `truth` is missing",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = super::run(&json!({"tables": 1}), &session)
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("4 mistake(s)")
            && said.contains("`sample` is missing")
            && said.contains("`tables`: found 1"),
        "{said}"
    );
    let number_that_is_none = Comparison {
        largest: f64::NAN,
        ..Comparison::default()
    };
    assert!(number_that_is_none.within(1e9).is_err());
}

#[test]
fn a_model_without_weights_is_refused_with_what_was_looked_for() {
    if !has_runtime() {
        return;
    }
    let session = session();
    let mut rng = Rng::derive(&[8]);
    let small = DenseNet {
        name: "small".to_owned(),
        scaling: unscaled(2),
        layers: vec![dense(&mut rng, 2, 1)],
        properties: Vec::new(),
    };
    let mut objects = session.objects.lock().unwrap();
    objects.insert("models/small/1.onnx".to_owned(), small.to_onnx().into());
    objects.insert("models/other/1.onnx".to_owned(), "no model".into());
    drop(objects);
    for (model, part) in [
        ("small", "model `small` version `1` has nothing to make INT8"),
        ("other", "model `other` version `1` is no ONNX file"),
    ] {
        let mut config = config();
        config["model"] = json!(model);
        // The checkpoint is of one job.
        let fresh = MemorySession::default();
        *fresh.objects.lock().unwrap() = session.objects.lock().unwrap().clone();
        let said = super::run(&config, &fresh).unwrap_err().to_string();
        assert!(said.contains(part), "{said}");
    }
}

/// A ranker of random towers.
fn ranker() -> Ranker {
    let mut rng = Rng::derive(&[9]);
    let mut side = |ids: i64| Side {
        ids: (1..=ids).collect(),
        table: numbers(&mut rng, (ids as usize + 1) * 16, 0.5),
        dim: 16,
        scaling: unscaled(1),
        layers: vec![dense(&mut rng, 17, 64), dense(&mut rng, 64, 32)],
    };
    let (user, item) = (side(100), side(200));
    Ranker {
        name: "ranker".to_owned(),
        user,
        item,
        bias: 0.1,
        properties: Vec::new(),
    }
}

/// One user and some items.
fn question(items: i64) -> Vec<Elements> {
    let ids = |count: i64| Elements {
        shape: vec![count],
        raw: (0..count).flat_map(|id| (id * 3).to_le_bytes()).collect(),
    };
    let features = |count: i64| Elements {
        shape: vec![count, 1],
        raw: (0..count)
            .flat_map(|at| (at as f32 / 50.0).to_le_bytes())
            .collect(),
    };
    vec![ids(1), features(1), ids(items), features(items)]
}

#[test]
fn tables_become_int8_where_that_is_asked_for() {
    if !has_runtime() {
        return;
    }
    let file = ranker().to_onnx();
    let scores = |file: &[u8]| -> Vec<f32> {
        let scorer = Scorer::of("ranker", "1", file, 1).unwrap();
        let said = scorer.run(&question(50)).unwrap();
        said[0]
            .raw
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    };
    let (without, with) = (quantise(&file, false).unwrap(), quantise(&file, true).unwrap());
    assert_eq!((without.weights, without.tables), (2, 0));
    assert_eq!((with.weights, with.tables), (2, 2));
    assert!(with.file.len() < without.file.len() / 2);
    let expected = scores(&file);
    for variant in [without, with] {
        let found = scores(&variant.file);
        let far = expected
            .iter()
            .zip(&found)
            .map(|(one, other)| (one - other).abs());
        let far = far.fold(0.0, f32::max);
        assert!(far > 0.0 && far < 0.05, "{far}");
    }
}
