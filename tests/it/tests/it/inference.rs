//! Models, as clients of the field ask for them.

use anyhow::Result;
use serde_json::{Value, json};
use tidegate_harness::Host;
use tidegate_it::Scene;
use tidegate_it::clients::{host_with_models, run};

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
    let answer = host.api.post(infer, &rows(json!([[1, 2, 3, 4]]))).await?;
    assert_eq!(answer["outputs"][0]["data"], json!([10.0]), "{answer}");
    assert_eq!(answer["model_version"], "1", "{answer}");

    let found = refused(&host, infer, rows(json!(["a"]))).await?;
    assert_eq!(found.0, 400);
    assert!(
        found
            .1
            .contains("`inputs[0].data`: found `a`, allowed for `FP32` are numbers"),
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
    let mut late = rows(json!([1, 2, 3, 4]));
    late["parameters"] = json!({ "timeout": 1 });
    let found = refused(&host, infer, late).await?;
    assert!(
        found.0 == 504 && found.1.contains("did not answer within 1µs"),
        "{found:?}"
    );
    Ok(())
}
