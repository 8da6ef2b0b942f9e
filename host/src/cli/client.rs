//! Talks to a running host.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

/// How long a host may take to begin an answer; deploying compiles components.
const PATIENCE: Duration = Duration::from_secs(300);

/// A client of one host.
pub(super) struct Client {
    host: String,
    token: Option<String>,
    http: reqwest::Client,
}

impl Client {
    pub(super) fn new(host: &str, token: Option<String>, ca: Option<&Path>) -> Result<Self> {
        if !(host.starts_with("http://") || host.starts_with("https://")) {
            bail!("`{host}` is no address of a host; it takes `http://127.0.0.1:8080` or `https://...`");
        }
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5));
        if let Some(ca) = ca {
            let pem = std::fs::read(ca)
                .with_context(|| format!("cannot read the certificate `{}`", ca.display()))?;
            let certificate = reqwest::Certificate::from_pem(&pem);
            let certificate =
                certificate.with_context(|| format!("`{}` holds no certificate", ca.display()))?;
            builder = builder.add_root_certificate(certificate);
        }
        let http = builder.build().context("cannot make an HTTP client")?;
        Ok(Self {
            host: host.trim_end_matches('/').to_owned(),
            token,
            http,
        })
    }

    /// A request to a path below the host's address.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.host));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        self.json(self.request(Method::GET, path).query(query)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// Sends a request whose answer is JSON.
    pub(super) async fn json(&self, request: RequestBuilder) -> Result<Value> {
        let answering = async {
            self.send(request)
                .await?
                .bytes()
                .await
                .context("the answer broke off")
        };
        let answer = tokio::time::timeout(PATIENCE, answering).await;
        let bytes = answer.map_err(|_| anyhow!("`{}` did not answer within {PATIENCE:?}", self.host))??;
        serde_json::from_slice(&bytes).with_context(|| format!("`{}` did not answer with JSON", self.host))
    }

    /// Sends a request; an answer that tells of an error is one.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let sent = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = sent.status();
        if status.is_success() {
            return Ok(sent);
        }
        let text = sent.text().await.unwrap_or_default();
        let told = serde_json::from_str::<Value>(&text).ok();
        let message = told.as_ref().and_then(|told| told["error"]["message"].as_str());
        bail!(
            "{}",
            message.map_or_else(
                || format!("`{}` answered {status}: {}", self.host, text.trim()),
                str::to_owned
            )
        )
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            return anyhow!(
                "no host answers at `{}`; start one with `tidegate up`, or name it with `--host`",
                self.host
            );
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        anyhow!("`{}` did not answer: {cause}", self.host)
    }
}

/// Part of a path, encoded so that it stays one part.
pub(super) fn part(text: &str) -> String {
    encoded(text, false)
}

/// A key, encoded with its slashes kept.
pub(super) fn key(text: &str) -> String {
    encoded(text, true)
}

fn encoded(text: &str, slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte as char),
            b'/' if slashes => encoded.push('/'),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}
