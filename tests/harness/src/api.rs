//! A client of the gateway: functions' routes and `/api/v1`, over plain HTTP or HTTPS.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Certificate, Client, Method, Response};
use serde_json::{Value, json};

use crate::follow::Follower;
use crate::notice::Run;

const PATIENCE: Duration = Duration::from_secs(60);

/// A client of one gateway.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    client: Client,
}

impl Api {
    /// A client of the gateway at `base`, which trusts the certificate in `ca_pem` and no other.
    pub fn new(base: &str, ca_pem: Option<&[u8]>) -> Result<Self> {
        // A second call finds it installed already, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .tls_built_in_root_certs(false)
            .no_proxy()
            .connect_timeout(PATIENCE);
        if let Some(pem) = ca_pem {
            builder = builder.add_root_certificate(Certificate::from_pem(pem).context("no certificate")?);
        }
        let client = builder.build().context("cannot make an HTTP client")?;
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            client,
        })
    }

    /// The gateway's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request and hands back whatever is answered.
    pub async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Response> {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.request(method.clone(), &url).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        request
            .send()
            .await
            .with_context(|| format!("no answer to {method} {url}"))
    }

    /// Status and body of a POST.
    pub async fn post_raw(&self, path: &str, body: Vec<u8>) -> Result<(u16, String)> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        let status = response.status().as_u16();
        Ok((status, response.text().await.context("the answer broke off")?))
    }

    /// Status, `Retry-After` in seconds, and body of a POST.
    pub async fn post_told(&self, path: &str, body: &Value) -> Result<(u16, Option<u64>, String)> {
        let body = body.to_string().into_bytes();
        let response = self.send(Method::POST, path, Some(body)).await?;
        let later = response.headers().get("retry-after");
        let later = later.and_then(|value| value.to_str().ok()?.parse().ok());
        let status = response.status().as_u16();
        Ok((
            status,
            later,
            response.text().await.context("the answer broke off")?,
        ))
    }

    /// Status and body of a GET.
    pub async fn get_raw(&self, path: &str) -> Result<(u16, String)> {
        let response = self.send(Method::GET, path, None).await?;
        let status = response.status().as_u16();
        Ok((status, response.text().await.context("the answer broke off")?))
    }

    /// Status and body of a POST without a body that carries an `Idempotency-Key`.
    pub async fn post_once(&self, path: &str, key: &str) -> Result<(u16, String)> {
        let url = format!("{}{path}", self.base);
        let request = self.client.post(&url).timeout(PATIENCE);
        let response = request
            .header("idempotency-key", key)
            .send()
            .await
            .with_context(|| format!("no answer to POST {url}"))?;
        let status = response.status().as_u16();
        Ok((status, response.text().await.context("the answer broke off")?))
    }

    /// A GET that must succeed, as text.
    pub async fn get_text(&self, path: &str) -> Result<String> {
        let response = self.send(Method::GET, path, None).await?.error_for_status();
        response
            .with_context(|| format!("`{path}`"))?
            .text()
            .await
            .context("the answer broke off")
    }

    /// A GET that must succeed, as JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        answer(path, self.send(Method::GET, path, None).await?).await
    }

    /// A POST that must succeed, as JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        answer(
            path,
            self.send(Method::POST, path, Some(body.to_string().into_bytes()))
                .await?,
        )
        .await
    }

    /// Writes an object through the gateway.
    pub async fn put_object(&self, bucket: &str, key: &str, body: Vec<u8>) -> Result<()> {
        let path = format!("/api/v1/objects/{bucket}/{key}");
        let response = self.send(Method::PUT, &path, Some(body)).await?;
        answer(&path, response).await.map(drop)
    }

    /// Sends an event.
    pub async fn event(&self, event_type: &str, data: Value) -> Result<Value> {
        self.post("/api/v1/events", &json!({ "type": event_type, "data": data }))
            .await
    }

    /// All runs, the newest first.
    pub async fn runs(&self) -> Result<Vec<Run>> {
        let mut answer = self.get("/api/v1/runs?limit=100").await?;
        serde_json::from_value(answer["runs"].take()).context("no list of runs")
    }

    /// One run with its steps.
    pub async fn run(&self, run: &str) -> Result<Run> {
        serde_json::from_value(self.get(&format!("/api/v1/runs/{run}")).await?).context("no run")
    }

    /// The registry's records of one model.
    pub async fn model(&self, name: &str) -> Result<Value> {
        self.get(&format!("/api/v1/models/{name}")).await
    }

    /// Follows the notices from now on.
    pub async fn follow(&self) -> Result<Follower> {
        let url = format!("{}/api/v1/events?follow=true", self.base);
        let response = self
            .client
            .get(&url)
            .send()
            .await
            .with_context(|| format!("no answer to GET {url}"))?;
        Ok(Follower::new(
            response
                .error_for_status()
                .context("the host does not tell its notices")?,
        ))
    }
}

async fn answer(path: &str, response: Response) -> Result<Value> {
    let status = response.status();
    let text = response
        .text()
        .await
        .with_context(|| format!("the answer to `{path}` broke off"))?;
    if !status.is_success() {
        bail!("`{path}` answered {status}: {}", text.trim());
    }
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).with_context(|| format!("`{path}` answered no JSON: {text}"))
}
