//! A small training set as files, and a model that nobody had to train.

use std::sync::Arc;

use parquet::column::writer::ColumnWriter;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tidegate_worker::onnx::ranker::Dense;
use tidegate_worker::onnx::tabular::DenseNet;
use tidegate_worker::train::rng::Rng;
use tidegate_worker::train::scaling::Scaling;

/// A model of two `features` with one `score`.
pub fn linear_model() -> Vec<u8> {
    let layer = Dense {
        weights: vec![1.0, -2.0],
        bias: vec![0.5],
    };
    let scaling = Scaling {
        mean: vec![0.0; 2],
        std: vec![1.0; 2],
    };
    let model = DenseNet {
        name: "linear".to_owned(),
        scaling,
        layers: vec![layer],
        properties: Vec::new(),
    };
    model.to_onnx()
}

/// `dataset.json` and the three splits.
pub fn training_set() -> Vec<(String, Vec<u8>)> {
    let manifest = serde_json::json!({
        "dataset": "d", "label": "click", "digest": "0123",
        "user_features": ["rate", "count"], "item_features": ["rate"],
        "normalisation": {"user": {"mean": [0.5, 3.0], "std": [0.3, 2.0]}, "item": {"mean": [0.5], "std": [0.3]}},
        "rows": {"train": 4000, "validation": 500, "test": 500},
    });
    let mut files = vec![("dataset.json".to_owned(), manifest.to_string().into_bytes())];
    for (name, rows, seed) in [("train", 4000, 1), ("validation", 500, 2), ("test", 500, 3)] {
        files.push((format!("{name}.parquet"), split(rows, seed)));
    }
    files
}

/// Features of a [`wide`] table.
pub const WIDTH: usize = 48;

/// A table of `f0` to `f47`, the first of which says what the `label` is.
pub fn wide(rows: usize) -> Vec<u8> {
    let names: String = (0..WIDTH).map(|at| format!("required float f{at};")).collect();
    let schema = parse_message_type(&format!("message m {{ required float label; {names} }}")).unwrap();
    let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, Arc::new(schema), Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = |values: Vec<f32>| {
        let mut column = group.next_column().unwrap().unwrap();
        let ColumnWriter::FloatColumnWriter(out) = column.untyped() else {
            panic!("no such column here")
        };
        out.write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    };
    let draw = |at: u64| -> Vec<f32> {
        let mut rng = Rng::derive(&[at]);
        (0..rows).map(|_| rng.uniform()).collect()
    };
    let label = draw(0).into_iter().map(|first| f32::from(u8::from(first > 0.5)));
    column(label.collect());
    (0..WIDTH as u64).for_each(|at| column(draw(at)));
    group.close().unwrap();
    writer.close().unwrap();
    file
}

/// Rows of such a split.
pub fn split(rows: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::derive(&[seed]);
    let mut ids = |most: usize| -> Vec<i64> { (0..rows).map(|_| rng.below(most) as i64).collect() };
    let mut whole = vec![ids(100), ids(200), (0..rows as i64).collect()].into_iter();
    let mut draw = || -> Vec<f32> { (0..rows).map(|_| rng.uniform()).collect() };
    let (user, count, item, noise) = (draw(), draw(), draw(), draw());
    let rows = user.iter().zip(&item).zip(&noise);
    let label = rows
        .map(|((user, item), noise)| f32::from(u8::from(user + item + noise > 1.5)))
        .collect();
    let mut floats = vec![label, user, count, item].into_iter();
    let schema = "message m { required int64 user_id; required int64 item_id; required int64 timestamp;
        required float label; required float user.rate; required float user.count; required float item.rate; }";
    let mut file = Vec::new();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(&mut file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    while let Some(mut column) = group.next_column().unwrap() {
        match column.untyped() {
            ColumnWriter::Int64ColumnWriter(out) => {
                out.write_batch(&whole.next().unwrap(), None, None).unwrap()
            }
            ColumnWriter::FloatColumnWriter(out) => {
                out.write_batch(&floats.next().unwrap(), None, None).unwrap()
            }
            _ => panic!("no such column here"),
        };
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    file
}
