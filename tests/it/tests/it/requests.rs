//! Requests that change state: committed before the answer, and once for each `Idempotency-Key`.

use anyhow::{Context as _, Result};
use serde_json::Value;
use tidegate_harness::{Host, workspace_root};
use tidegate_it::Scene;

#[tokio::test]
async fn the_effects_of_requests_with_one_key_are_committed_once() -> Result<()> {
    let scene = Scene::new()?;
    let manifest = workspace_root().join("functions/hello/tidegate.toml");
    let host = Host::start(scene.options(manifest)).await?;
    assert_eq!(greet(&host, Some("first")).await?, (200, Some(1)));
    let (status, _) = greet(&host, Some("first")).await?;
    assert_eq!(status, 409, "a repeated key");
    assert_eq!(greet(&host, Some("second")).await?, (200, Some(2)));
    assert_eq!(greet(&host, None).await?, (200, Some(3)));
    assert_eq!(greet(&host, None).await?, (200, Some(4)));
    let (status, _) = greet(&host, Some(&"k".repeat(5000))).await?;
    assert_eq!(status, 400, "a key that is too long");
    Ok(())
}

/// The answer's status, and the greetings it tells of.
async fn greet(host: &Host, key: Option<&str>) -> Result<(u16, Option<u64>)> {
    const PATH: &str = "/hello/ada";
    let (status, body) = match key {
        Some(key) => host.api.post_once(PATH, key).await?,
        None => host.api.post_raw(PATH, Vec::new()).await?,
    };
    let body: Value = serde_json::from_str(&body).with_context(|| format!("the answer is `{body}`"))?;
    Ok((status, body["greetings"].as_u64()))
}
