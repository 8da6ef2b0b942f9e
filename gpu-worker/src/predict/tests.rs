//! Files become predictions: what goes over, what is added, what is refused. Needs ONNX Runtime's library; says so where it is
//! absent.

use std::sync::Arc;

use bytes::Bytes;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use super::table::{PIECE, Table};
use super::values::Values;
use crate::inference::runtime;
use crate::jobs::session::{JobError, Session as _};
use crate::onnx::graph::{Dim, GraphBuilder};
use crate::onnx::proto::DataType;
use crate::onnx::ranker::Dense;
use crate::onnx::tabular::DenseNet;
use crate::train::scaling::Scaling;
use crate::train::testing::{MemorySession, columns, features, table};

/// Whether ONNX Runtime is there; a word about it where it is not.
fn has_runtime() -> bool {
    runtime::environment()
        .map_err(|reason| eprintln!("skipped: {reason}"))
        .is_ok()
}

/// A session with a linear model of three features.
fn session() -> MemorySession {
    let session = MemorySession::default();
    let layer = Dense {
        weights: vec![0.5, -1.0, 0.25],
        bias: vec![0.1],
    };
    let scaling = Scaling {
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
    };
    let model = DenseNet {
        name: "linear".to_owned(),
        scaling,
        layers: vec![layer],
        properties: Vec::new(),
    };
    put(&session, "models/linear/1.onnx", model.to_onnx());
    session
}

fn put(session: &MemorySession, name: &str, content: Vec<u8>) {
    session
        .objects
        .lock()
        .unwrap()
        .insert(name.to_owned(), content.into());
}

fn config() -> Value {
    json!({
        "model": "linear",
        "input": {"bucket": "data", "prefix": "in/"},
        "output": {"bucket": "data", "prefix": "out/"},
        "inputs": {"features": ["x", "y", "noise"]},
        "keep": ["label", "x"],
        "batch_size": 100,
    })
}

fn written(session: &MemorySession, name: &str) -> Bytes {
    session.read("data", name).unwrap()
}

/// The names of a file's columns, and all values of each.
fn read(session: &MemorySession, name: &str) -> (Vec<String>, Vec<Vec<f64>>) {
    let table = Table::open(session.download("data", name).unwrap()).unwrap();
    let names = table.names();
    let places: Vec<usize> = (0..names.len()).collect();
    let mut all = vec![Vec::new(); names.len()];
    let mut pieces = table.pieces(&places);
    while let Some(piece) = pieces.read().unwrap() {
        for (all, column) in all.iter_mut().zip(&piece.columns) {
            all.extend(column.values.numbers(0..piece.rows));
        }
    }
    (names, all)
}

#[test]
fn each_file_becomes_one_of_its_name_with_what_is_kept_and_what_is_predicted() {
    if !has_runtime() {
        return;
    }
    let session = session();
    put(&session, "data/in/a.parquet", table(PIECE + 50, 1));
    put(&session, "data/in/day=2/b.parquet", table(30, 2));
    put(&session, "data/in/day=3/none.parquet", table(0, 3));
    put(&session, "data/in/_SUCCESS", Vec::new());
    let outputs = super::run(&config(), &session).unwrap();
    assert_eq!(outputs["files"], 3, "{outputs}");
    assert_eq!(outputs["rows"], PIECE + 80, "{outputs}");
    assert_eq!(outputs["model"]["version"], "1", "{outputs}");
    let sizes = ["out/a.parquet", "out/day=2/b.parquet", "out/day=3/none.parquet"]
        .map(|name| written(&session, name).len());
    assert_eq!(outputs["bytes"], sizes.iter().sum::<usize>(), "{outputs}");

    let (names, found) = read(&session, "out/a.parquet");
    assert_eq!(names, ["label", "x", "score"]);
    let (rows, labels) = features(PIECE + 50, 1);
    assert_eq!(found[0].len(), rows.len());
    for (row, ([x, y, noise], label)) in rows.iter().zip(labels).enumerate() {
        // Features are kept within six deviations.
        let logit = 0.5 * x.clamp(-6.0, 6.0) - y + 0.25 * noise + 0.1;
        let score = f64::from(1.0 / (1.0 + (-logit).exp()));
        assert_eq!((found[0][row], found[1][row]), (f64::from(label), f64::from(*x)));
        assert!(
            (found[2][row] - score).abs() < 1e-5,
            "row {row}: {} {score}",
            found[2][row]
        );
    }
    assert_eq!(read(&session, "out/day=3/none.parquet").1[2].len(), 0);
}

#[test]
fn a_job_that_is_abandoned_anywhere_goes_on_and_writes_the_same_bytes() {
    if !has_runtime() {
        return;
    }
    let files = ["a.parquet", "b.parquet", "c.parquet"];
    let fill = |session: &MemorySession| {
        for (seed, file) in files.iter().enumerate() {
            put(session, &format!("data/in/{file}"), table(250, seed as u64));
        }
    };
    let whole = session();
    fill(&whole);
    let expected = super::run(&config(), &whole).unwrap();
    // Three files of three batches each: every question may be the last.
    for patience in 0..9 {
        let mut broken = session();
        fill(&broken);
        broken.until(patience);
        let stopped = super::run(&config(), &broken).unwrap_err();
        assert!(matches!(stopped, JobError::Abandoned), "{stopped}");
        broken.until(usize::MAX);
        assert_eq!(super::run(&config(), &broken).unwrap(), expected);
        for file in files {
            let name = format!("out/{file}");
            assert!(
                written(&broken, &name) == written(&whole, &name),
                "{patience}: {name}"
            );
        }
    }
}

#[test]
fn whatever_does_not_fit_is_told_at_once() {
    if !has_runtime() {
        return;
    }
    let failed =
        |config: &Value, session: &MemorySession| super::run(config, session).unwrap_err().to_string();
    let session = session();
    let said = failed(&config(), &session);
    assert!(said.contains("`data/in/` has no file `*.parquet`"), "{said}");

    let wrong = json!({
        "model": 7, "input": {"bucket": "data", "prefix": "in"}, "output": {"bucket": "data", "prefix": "in/out"},
        "inputs": {"features": [1]}, "batch_size": 0, "retries": 1,
    });
    let said = failed(&wrong, &session);
    for part in [
        "5 mistake(s)",
        "`model`: found 7",
        "`inputs`: found",
        "`batch_size`: found 0",
        "`output`: found `data/in/out/`, allowed is a place apart from `input`",
        "unknown key `retries`",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }

    put(&session, "data/in/a.parquet", table(10, 1));
    let mut other = config();
    other["inputs"] = json!({"features": ["x", "nothing", "noise"], "more": "x"});
    other["outputs"] = json!({"score": "x", "logit": "logit"});
    other["keep"] = json!(["x", "id"]);
    let said = failed(&other, &session);
    for part in [
        "`data/in/a.parquet` does not fit model `linear` version `1`",
        "`inputs` names `more`, allowed are `features`",
        "`outputs` names `logit`, allowed are `score`",
        "two columns of the output would be `x`",
        "column `nothing` is missing, found are `x`, `noise`, `y`, `label`",
        "column `id` is missing",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    other = config();
    other["inputs"] = json!({"features": ["x", "y"]});
    let said = failed(&other, &session);
    assert!(
        said.contains("input `features` of shape [N, 3] cannot be made of 2 column(s)"),
        "{said}"
    );
    put(&session, "data/in/a.parquet", b"no table".to_vec());
    let said = failed(&config(), &session);
    assert!(said.contains("`data/in/a.parquet` cannot be read"), "{said}");
}

/// A file of an id, a text that may be missing, and two whole numbers.
fn mixed(texts: &[Option<&str>]) -> Vec<u8> {
    let schema =
        "message m { required int64 id; optional binary text (UTF8); optional int32 a; required int64 b; }";
    let mut out = Vec::new();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(&mut out, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
    let there: Vec<ByteArray> = texts
        .iter()
        .flatten()
        .map(|text| ByteArray::from(*text))
        .collect();
    let ids: Vec<i64> = (0..texts.len() as i64).map(|id| id + (1 << 60)).collect();
    while let Some(mut column) = group.next_column().unwrap() {
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(to) => to.write_batch(&there, Some(&levels), None),
            ColumnWriter::Int64ColumnWriter(to) => to.write_batch(&ids, None, None),
            ColumnWriter::Int32ColumnWriter(to) => to.write_batch(&vec![7; there.len()], Some(&levels), None),
            _ => panic!("no such column here"),
        }
        .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    out
}

/// A model that gives back what it takes.
fn echo(element: DataType, width: Option<usize>) -> Vec<u8> {
    let mut graph = GraphBuilder::default();
    let shape: Vec<Dim> = [Dim::Named("N")].into_iter().chain(width.map(Dim::Of)).collect();
    let input = graph.input("in", element, &shape);
    graph.finish("echo", &input, ("out", element, &shape), &[])
}

#[test]
fn whole_numbers_texts_and_nulls_go_over_as_they_are() {
    if !has_runtime() {
        return;
    }
    let session = session();
    put(&session, "models/echo/1.onnx", echo(DataType::Int64, Some(2)));
    put(&session, "models/echo/2.onnx", echo(DataType::String, None));
    put(&session, "models/echo/3.onnx", echo(DataType::Int8, None));
    put(
        &session,
        "data/in/a.parquet",
        mixed(&[Some("é"), Some(""), Some("c")]),
    );
    let mut config = json!({
        "model": "echo@1",
        "input": {"bucket": "data", "prefix": "in/"},
        "output": {"bucket": "data", "prefix": "out/"},
        "inputs": {"in": ["id", "a"]},
        "keep": ["text"],
    });
    super::run(&config, &session).unwrap();
    let (names, found) = read(&session, "out/a.parquet");
    assert_eq!(names, ["text", "out_0", "out_1"]);
    assert_eq!(found[2], [7.0; 3]);
    // Beyond what a float tells apart.
    let table = Table::open(session.download("data", "out/a.parquet").unwrap()).unwrap();
    let piece = table.pieces(&[0, 1]).read().unwrap().unwrap();
    let Values::Int64(ids) = &piece.columns[1].values else {
        panic!("{:?}", piece.columns[1])
    };
    assert_eq!(ids, &[1 << 60, (1 << 60) + 1, (1 << 60) + 2]);

    let again = MemorySession::default();
    *again.objects.lock().unwrap() = session.objects.lock().unwrap().clone();
    config["model"] = json!("echo@2");
    config["inputs"] = json!({"in": "text"});
    config["outputs"] = json!({"out": "said"});
    super::run(&config, &again).unwrap();
    let table = Table::open(again.download("data", "out/a.parquet").unwrap()).unwrap();
    let piece = table.pieces(&[0, 1]).read().unwrap().unwrap();
    let [Values::Bytes(kept), Values::Bytes(said)] = [0, 1].map(|at| &piece.columns[at].values) else {
        panic!("{piece:?}")
    };
    assert_eq!(kept, said);
    assert_eq!(said[0].data(), "é".as_bytes());

    put(&again, "data/in/a.parquet", mixed(&[Some("a"), None]));
    config["input"]["prefix"] = json!("in/");
    let fresh = MemorySession::default();
    *fresh.objects.lock().unwrap() = again.objects.lock().unwrap().clone();
    let said = super::run(&config, &fresh).unwrap_err().to_string();
    assert!(
        said.contains("`data/in/a.parquet` has a null in column `text`, row 1"),
        "{said}"
    );
    config["inputs"] = json!({"in": "b"});
    config["model"] = json!("echo@1");
    config["inputs"] = json!({"in": ["b", "id"]});
    config["outputs"] = json!({});
    super::run(&config, &fresh).unwrap();
    let table = Table::open(fresh.download("data", "out/a.parquet").unwrap()).unwrap();
    let piece = table.pieces(&[0]).read().unwrap().unwrap();
    assert_eq!(
        (piece.columns[0].null(0..2), piece.columns[0].values.len()),
        (Some(1), 1)
    );

    let narrow = MemorySession::default();
    *narrow.objects.lock().unwrap() = fresh.objects.lock().unwrap().clone();
    config["model"] = json!("echo@3");
    config["inputs"] = json!({"in": "id"});
    let said = super::run(&config, &narrow).unwrap_err().to_string();
    assert!(
        said.contains("has 1152921504606846976 in row 0, which is beyond the input's type (input `in`)"),
        "{said}"
    );
}

#[test]
fn a_column_of_another_type_is_refused_by_name() {
    if !has_runtime() {
        return;
    }
    let session = session();
    put(&session, "models/echo/1.onnx", echo(DataType::String, None));
    put(&session, "data/in/a.parquet", columns(&[("in", vec![1.0])]));
    let mut config = config();
    (config["model"], config["keep"], config["inputs"]) = (json!("echo"), json!(["in"]), json!({}));
    let said = super::run(&config, &session).unwrap_err().to_string();
    assert!(
        said.contains("column `in` is `FLOAT`, allowed for input `in` (`BYTES`) are `BYTE_ARRAY`"),
        "{said}"
    );
}
