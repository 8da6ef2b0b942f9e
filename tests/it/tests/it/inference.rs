//! Models, as clients of the field ask for them.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tidegate_harness::{Host, until};
use tidegate_it::Scene;
use tidegate_it::clients::{host_with_models, run};
use tidegate_it::observers::families;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn authority(url: &str) -> &str {
    url.trim_start_matches("http://")
}

fn rows(data: Value) -> Value {
    json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": data }] })
}

async fn refused(host: &Host, path: &str, body: Value) -> Result<(u16, String)> {
    let (status, text) = host.api.post_raw(path, body.to_string().into_bytes()).await?;
    let answer: Value = serde_json::from_str(&text)?;
    Ok((status, answer["error"].as_str().unwrap_or_default().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn tritons_client_makes_every_call_over_http_and_grpc() -> Result<()> {
    let scene = Scene::new()?;
    let host = host_with_models(&scene, "").await?;
    run("triton.py", &["http", authority(&host.ready.gateway)]).await?;
    run("triton.py", &["grpc", authority(&host.ready.inference)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_openapi_document_describes_is_answered_as_it_says() -> Result<()> {
    let scene = Scene::new()?;
    let host = host_with_models(&scene, "").await?;
    run("openapi.py", &[&host.ready.gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_answered_says_why_under_error() -> Result<()> {
    let scene = Scene::new()?;
    let host = host_with_models(&scene, "[inference]\nmax_request = \"4KiB\"\n").await?;
    let infer = "/v2/models/sums/infer";
    // The first, as a model that has to be loaded takes its time.
    let mut late = rows(json!([1, 2, 3, 4]));
    late["parameters"] = json!({ "timeout": 1 });
    let found = refused(&host, infer, late).await?;
    assert!(
        found.0 == 504 && found.1.contains("did not answer within 1µs"),
        "{found:?}"
    );

    let answer = host.api.post(infer, &rows(json!([[1, 2, 3, 4]]))).await?;
    assert_eq!(answer["outputs"][0]["data"], json!([10.0]), "{answer}");
    assert_eq!(answer["model_version"], "1", "{answer}");

    let found = refused(&host, infer, rows(json!(["a"]))).await?;
    assert_eq!(found.0, 400);
    assert!(
        found
            .1
            .contains("input `x`: found `a`, allowed for `FP32` are numbers"),
        "{found:?}"
    );
    let found = refused(
        &host,
        "/v2/models/sums/versions/uri:data%2Fx/infer",
        rows(json!([])),
    )
    .await?;
    assert!(found.0 == 400 && found.1.contains("names a file"), "{found:?}");
    let found = refused(&host, "/v2/models/none/infer", rows(json!([1, 2, 3, 4]))).await?;
    assert_eq!(
        (found.0, found.1.as_str()),
        (404, "model `none` has no alias `champion` yet")
    );
    let found = refused(&host, "/v2/nothing", json!({})).await?;
    assert_eq!(
        (found.0, found.1.as_str()),
        (404, "there is no `POST /v2/nothing`")
    );
    let found = refused(&host, infer, rows(json!(vec![0.125; 4096]))).await?;
    assert_eq!(found.0, 413);
    assert!(
        found.1.contains("larger than the 4096 bytes that are allowed"),
        "{found:?}"
    );
    let mut stream = TcpStream::connect(authority(&host.ready.gateway)).await?;
    let chunk = " ".repeat(8192);
    let told = format!(
        "POST {infer} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n2000\r\n{chunk}"
    );
    stream.write_all(told.as_bytes()).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"HTTP/1.1 413");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_or_no_worker_is_told_when_to_come_again() -> Result<()> {
    let scene = Scene::new()?;
    let config = "[inference]\nmax_requests = 1\n[worker]\nstart = false\ninfer_wait = \"3s\"\n";
    let host = host_with_models(&scene, config).await?;
    let (path, asked) = ("/v2/models/sums/infer", rows(json!([1, 2, 3, 4])));
    let (api, body) = (host.api.clone(), asked.clone());
    let waiting = tokio::spawn(async move { api.post_told(path, &body).await });
    until(
        "a request that waits for a worker",
        Duration::from_secs(30),
        async || {
            let text = host.api.get_text("/metrics").await?;
            Ok(text.contains("\ntidegate_inferences_active 1\n").then_some(()))
        },
    )
    .await?;
    let (status, later, told) = host.api.post_told(path, &asked).await?;
    assert!(status == 429 && later.is_some(), "{status} {later:?} {told}");
    let (status, later, told) = waiting.await??;
    assert!(status == 503 && later.is_some(), "{status} {later:?} {told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_waits_for_memory_that_others_have_and_is_refused_where_they_keep_it() -> Result<()> {
    let scene = Scene::new()?;
    let config = "[gateway]\nqueue_wait = \"300ms\"\n[inference]\nmax_bodies = \"1MiB\"\n";
    let host = host_with_models(&scene, config).await?;
    let (path, asked) = ("/v2/models/sums/infer", rows(json!([1, 2, 3, 4])));
    host.api.post(path, &asked).await?;
    let mut slow = TcpStream::connect(authority(&host.ready.gateway)).await?;
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2097152\r\n\r\n");
    slow.write_all(head.as_bytes()).await?;
    let (told, later) = until(
        "a body that has the memory",
        Duration::from_secs(30),
        async || {
            let (status, later, told) = host.api.post_told(path, &asked).await?;
            Ok((status == 429).then_some((told, later)))
        },
    )
    .await?;
    assert!(
        later.is_some() && told.contains("all 1048576 bytes"),
        "{later:?} {told}"
    );
    drop(slow);
    until("the memory again", Duration::from_secs(30), async || {
        let (status, _, _) = host.api.post_told(path, &asked).await?;
        Ok((status == 200).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_announced_too_large_is_refused_before_it_is_sent() -> Result<()> {
    let scene = Scene::new()?;
    let host = host_with_models(&scene, "").await?;
    let mut stream = TcpStream::connect(authority(&host.ready.gateway)).await?;
    let head = "POST /v2/models/sums/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1073741824\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"HTTP/1.1 413");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_requests_of_each_model_took() -> Result<()> {
    let scene = Scene::new()?;
    let config = "[inference]\ntriton_metrics = true\n[inference.models.sums]\nmax_batch_size = 8\n";
    let host = host_with_models(&scene, config).await?;
    let two = json!({ "inputs": [{ "name": "x", "shape": [2, 4], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6, 7, 8] }] });
    let answer = host.api.post("/v2/models/sums/infer", &two).await?;
    assert_eq!(answer["outputs"][0]["data"], json!([10.0, 26.0]), "{answer}");
    refused(&host, "/v2/models/sums/infer", json!({ "inputs": [] })).await?;
    let text = until(
        "a worker that tells what it uses",
        Duration::from_secs(30),
        async || {
            let text = host.api.get_text("/metrics").await?;
            Ok(text.contains("tidegate_worker_memory_bytes{").then_some(text))
        },
    )
    .await?;
    let families = families(&text).await?;
    let used = |family: &str| families[family]["samples"][0][2].as_f64();
    assert!(
        used("tidegate_worker_memory_bytes").is_some_and(|bytes| bytes > 1e6),
        "{text}"
    );
    // Of a process that has just begun it may be nothing yet.
    assert!(used("tidegate_worker_cpu_seconds").is_some(), "{text}");
    for (family, labels, wanted) in [
        ("tidegate_model_requests", "done", 1.0),
        ("tidegate_model_requests", "failed", 1.0),
        ("tidegate_model_rows", "", 2.0),
        ("tidegate_model_batches", "2", 1.0),
        ("nv_inference_request_success", "", 1.0),
        ("nv_inference_exec_count", "", 1.0),
    ] {
        let samples = families[family]["samples"].as_array().into_iter().flatten();
        let found =
            samples.filter(|sample| sample[1]["model"] == "sums" && sample[1].to_string().contains(labels));
        let values: Vec<_> = found.filter_map(|sample| sample[2].as_f64()).collect();
        assert_eq!(values, [wanted], "{family} {labels}\n{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_answer_where_they_are_said_to_be_and_nowhere_else() -> Result<()> {
    let scene = Scene::new()?;
    let config = "[inference.models.sums]\ninstance_group = { count = 2, kind = \"KIND_CPU\" }\n\
        [inference.models.types]\ninstance_group = { kind = \"KIND_GPU\" }\n";
    let host = host_with_models(&scene, config).await?;
    let one =
        json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] }] });
    let answer = host.api.post("/v2/models/sums/infer", &one).await?;
    assert_eq!(answer["outputs"][0]["data"], json!([10.0]), "{answer}");
    let (status, text) = host.api.get_raw("/v2/models/types").await?;
    assert_eq!(status, 503, "{text}");
    let reason = "has instances of `KIND_GPU`, and the execution providers of this worker are `cpu`";
    assert!(text.contains(reason), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mlflows_clients_score_rows_in_every_form() -> Result<()> {
    let scene = Scene::new()?;
    let host = host_with_models(&scene, "[inference]\ninvocations = \"sums\"\n").await?;
    let wanted = json!({ "predictions": [[10.0], [26.0]] });
    let (first, second) = (json!([1, 2, 3, 4]), json!([5, 6, 7, 8]));
    let named = |row: [u8; 4]| json!({ "a": row[0], "b": row[1], "c": row[2], "d": row[3] });
    for asked in [
        json!({ "instances": [first, second] }),
        json!({ "inputs": { "x": [first, second] } }),
        json!({ "dataframe_split": { "columns": ["a", "b", "c", "d"], "data": [first, second] } }),
        json!({ "dataframe_records": [named([1, 2, 3, 4]), named([5, 6, 7, 8])] }),
    ] {
        assert_eq!(
            host.api.post("/models/sums/invocations", &asked).await?,
            wanted,
            "{asked}"
        );
        assert_eq!(host.api.post("/invocations", &asked).await?, wanted, "{asked}");
    }
    assert_eq!(host.api.get_raw("/ping").await?.0, 200);
    assert_eq!(host.api.get_raw("/models/sums/ping").await?.0, 200);
    let (status, text) = host
        .api
        .post_raw("/models/none/invocations", br#"{"inputs":[1]}"#.to_vec())
        .await?;
    assert_eq!(status, 404, "{text}");
    assert!(text.contains("RESOURCE_DOES_NOT_EXIST"), "{text}");
    let (status, text) = host
        .api
        .post_raw("/invocations", br#"{"inputs":[["a"]]}"#.to_vec())
        .await?;
    assert_eq!(status, 400, "{text}");
    assert!(
        text.contains("found `a`, allowed for `FP32` are numbers"),
        "{text}"
    );
    Ok(())
}
