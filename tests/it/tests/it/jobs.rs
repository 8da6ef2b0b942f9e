//! Jobs that use registered models: whole files are predicted, INT8 variants are made.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use parquet::column::reader::ColumnReader;
use parquet::column::writer::ColumnWriter;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use tidegate_harness::{Host, until};
use tidegate_it::Scene;
use tidegate_it::clients::run;

const LIMIT: Duration = Duration::from_secs(120);
/// Submits the job that its event asks for.
const SUBMITTER: &str = r#"
[app]
name = "submitter"

[[function]]
name = "submitter"
component = "tidegate_guests_jobs.wasm"
trigger = [{ event = "JobAsked" }]
grants.jobs.submit = ["predict.batch", "quantise.onnx"]
grants.objects.read = ["data/in/", "models/"]
grants.objects.write = ["data/out/", "models/"]
grants.events.emit = ["JobEnded"]
"#;

/// A host that knows the models `sums` and `wide`.
async fn host(scene: &Scene) -> Result<Host> {
    let folder = scene.path("onnx");
    std::fs::create_dir_all(&folder)?;
    run("models.py", &[&folder.display().to_string()]).await?;
    let host = Host::start(scene.options(scene.file("tidegate.toml", SUBMITTER)?)).await?;
    for name in ["sums", "wide"] {
        let (file, key) = (
            std::fs::read(folder.join(format!("{name}.onnx")))?,
            format!("{name}/a.onnx"),
        );
        host.bucket("models").put(&key, file).await?;
        let offered = json!({ "name": name, "bucket": "models", "key": key });
        host.api.post("/api/v1/models", &offered).await?;
    }
    Ok(host)
}

/// Submits a job and waits for its end.
async fn ended(host: &Host, kind: &str, config: Value, reads: &[&str], writes: &[&str]) -> Result<Value> {
    let known = host.api.get("/api/v1/jobs").await?["jobs"]
        .as_array()
        .map_or(0, Vec::len);
    let asked = json!({ "kind": kind, "config": config, "reads": reads, "writes": writes });
    host.api.event("JobAsked", asked).await?;
    let job = until("the job's end", LIMIT, async || {
        let jobs = host.api.get("/api/v1/jobs").await?;
        let all = jobs["jobs"].as_array().context("no list of jobs")?;
        let ended = all.iter().all(|job| job["finished"].is_u64());
        let latest = all.iter().max_by_key(|job| job["created"].as_u64()).cloned();
        Ok(latest.filter(|_| ended && all.len() > known))
    });
    job.await
        .with_context(|| format!("the host's log ends:\n{}", host.log_tail()))
}

/// Rows of four columns of floats, and a number of their own.
fn rows(count: usize) -> Result<Vec<u8>> {
    let schema = "message m { required int64 id; required float a; required float b; required float c; required float d; }";
    let mut file = Vec::new();
    let schema = Arc::new(parse_message_type(schema)?);
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::default())?;
    let mut group = writer.next_row_group()?;
    while let Some(mut column) = group.next_column()? {
        match column.untyped() {
            ColumnWriter::Int64ColumnWriter(to) => {
                to.write_batch(&(0..count as i64).collect::<Vec<_>>(), None, None)?
            }
            ColumnWriter::FloatColumnWriter(to) => {
                to.write_batch(&(0..count).map(|row| row as f32).collect::<Vec<_>>(), None, None)?
            }
            _ => panic!("no such column here"),
        };
        column.close()?;
    }
    group.close()?;
    writer.close()?;
    Ok(file)
}

/// The names of a file's columns, and the floats of the last one.
fn predictions(file: Vec<u8>) -> Result<(Vec<String>, Vec<f32>)> {
    let reader = SerializedFileReader::new(bytes::Bytes::from(file))?;
    let columns = reader.metadata().file_metadata().schema_descr().columns();
    let names: Vec<String> = columns.iter().map(|column| column.name().to_owned()).collect();
    let group = reader.get_row_group(0)?;
    let ColumnReader::FloatColumnReader(mut last) = group.get_column_reader(names.len() - 1)? else {
        panic!("no floats in {names:?}")
    };
    let mut values = Vec::new();
    last.read_records(usize::MAX, None, None, &mut values)?;
    Ok((names, values))
}

fn batch() -> Value {
    json!({
        "model": "sums@champion",
        "input": { "bucket": "data", "prefix": "in/" },
        "output": { "bucket": "data", "prefix": "out/" },
        "inputs": { "x": ["a", "b", "c", "d"] },
        "keep": ["id"],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_predicted_by_a_registered_model_and_the_end_says_by_which_version() -> Result<()> {
    let scene = Scene::new()?;
    let host = host(&scene).await?;
    let data = host.bucket("data");
    for (key, count) in [("in/day=1/a.parquet", 3), ("in/day=2/b.parquet", 5)] {
        data.put(key, rows(count)?).await?;
    }
    let reads = ["data/in/", "models/sums/"];
    let job = ended(&host, "predict.batch", batch(), &reads, &["data/out/"]).await?;
    assert_eq!(job["phase"], "succeeded", "{job}");
    let told = &job["detail"];
    assert_eq!((&told["files"], &told["rows"]), (&json!(2), &json!(8)), "{told}");
    assert_eq!(
        (&told["model"]["name"], &told["model"]["version"]),
        (&json!("sums"), &json!("1")),
        "{told}"
    );
    assert_eq!(
        data.list("out/").await?,
        ["out/day=1/a.parquet", "out/day=2/b.parquet"]
    );
    let (names, sums) = predictions(data.get("out/day=2/b.parquet").await?)?;
    assert_eq!(names, ["id", "sum"]);
    assert_eq!(sums, [0.0, 4.0, 8.0, 12.0, 16.0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gets_no_model_and_no_list_of_files_that_it_may_not_read() -> Result<()> {
    let scene = Scene::new()?;
    let host = host(&scene).await?;
    host.bucket("data").put("in/a.parquet", rows(3)?).await?;
    let job = ended(&host, "predict.batch", batch(), &["data/in/"], &["data/out/"]).await?;
    assert_eq!(job["phase"], "failed", "{job}");
    let said = job["detail"].to_string();
    assert!(said.contains("`models/sums/a.onnx` is not allowed"), "{said}");

    let reads = ["data/in/b/", "models/sums/"];
    let job = ended(&host, "predict.batch", batch(), &reads, &["data/out/"]).await?;
    let said = job["detail"].to_string();
    assert!(
        job["phase"] == "failed" && said.contains("`data/in/` is not allowed"),
        "{said}"
    );

    let mut unknown = batch();
    unknown["model"] = json!("sums@7");
    let reads = ["data/in/", "models/sums/"];
    let job = ended(&host, "predict.batch", unknown, &reads, &["data/out/"]).await?;
    let said = job["detail"].to_string();
    assert!(
        job["phase"] == "failed" && said.contains("model `sums` has no version 7"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_int8_variant_is_made_registered_and_answers_under_its_alias() -> Result<()> {
    let scene = Scene::new()?;
    let host = host(&scene).await?;
    host.bucket("data").put("in/a.parquet", rows(300)?).await?;
    let config = json!({
        "model": "wide",
        "output": { "bucket": "models", "prefix": "wide/int8/" },
        "sample": { "bucket": "data", "prefix": "in/" },
        "inputs": { "x": ["a", "b", "c", "d"] },
    });
    let reads = ["data/in/", "models/wide/"];
    let job = ended(
        &host,
        "quantise.onnx",
        config.clone(),
        &reads,
        &["models/wide/int8/"],
    )
    .await?;
    let told = &job["detail"];
    assert_eq!(
        (&job["phase"], &told["version"]),
        (&json!("succeeded"), &json!(2)),
        "{job}"
    );
    assert_eq!(
        (&told["weights"], &told["rows"]),
        (&json!(1), &json!(300)),
        "{told}"
    );

    let asked =
        json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] }] });
    let score = async |path: &str| -> Result<(String, f64)> {
        let answer = host.api.post(path, &asked).await?;
        let score = answer["outputs"][0]["data"][0].as_f64().context("no score")?;
        Ok((answer["model_version"].to_string(), score))
    };
    let (champion, reference) = score("/v2/models/wide/infer").await?;
    let (version, variant) = score("/v2/models/wide/versions/int8/infer").await?;
    assert_eq!((champion.as_str(), version.as_str()), ("\"1\"", "\"2\""));
    assert!((reference - variant).abs() < 0.05, "{reference} {variant}");

    let mut reserved = config;
    reserved["alias"] = json!("champion");
    let job = ended(&host, "quantise.onnx", reserved, &reads, &["models/wide/int8/"]).await?;
    let said = job["detail"].to_string();
    assert!(
        job["phase"] == "failed" && said.contains("`alias` is `champion`"),
        "{said}"
    );
    Ok(())
}
