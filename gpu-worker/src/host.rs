//! The worker's client of the host: one method for each call of the protocol under `/worker/v1`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_tls::{Identity, Watched};
use tidegate_trace::Context;

use crate::devices::Device;
use crate::jobs::session::{Progress, Registered, Variant};
use crate::usage::Usage;

/// Header that limits an object call to what a job may touch.
const LEASE_HEADER: &str = "x-tidegate-lease";
/// Header that lets a model's file be read.
const PASS_HEADER: &str = "x-tidegate-pass";
/// Longest answer to a call that carries no object.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence while an object is carried.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How a call to the host can fail; one variant per decision of the worker.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The lease is no longer this worker's: drop the job.
    #[error("the lease is lost")]
    LeaseLost,
    /// There is no such object.
    #[error("object `{0}` does not exist")]
    NotFound(String),
    /// The host understood and refused: trying again changes nothing.
    #[error("the host refused {call} with {status}: {reason}")]
    Refused {
        /// The call.
        call: String,
        /// The status.
        status: u16,
        /// The host's words.
        reason: String,
    },
    /// The host is away, busy or failing: try again.
    #[error("{call} failed: {reason}")]
    Unavailable {
        /// The call.
        call: String,
        /// What went wrong.
        reason: String,
    },
}

/// A job as it is leased.
#[derive(Debug, Clone, Deserialize)]
pub struct Leased {
    /// The job.
    pub job: Job,
    /// The claim to it.
    pub lease: Lease,
}

/// A job.
#[derive(Debug, Clone, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// What is to be done.
    pub kind: String,
    /// The details.
    pub config: Value,
    /// Which attempt this is.
    #[serde(default)]
    pub attempt: u32,
    /// Where it stands in its trace, as W3C has it.
    pub traceparent: Option<String>,
}

impl Job {
    /// The place in the trace of a worker's work on it: below the host's own span of this attempt.
    pub fn work(&self) -> Option<Context> {
        Some(self.attempt_context()?.below(&["work"]))
    }

    /// The place in the trace of this attempt, as the host told it.
    pub fn attempt_context(&self) -> Option<Context> {
        Context::parse(self.traceparent.as_deref()?)
    }
}

/// A claim to a job.
#[derive(Debug, Clone, Deserialize)]
pub struct Lease {
    /// Shown with every call for the job.
    pub token: String,
    /// How long the claim outlives the last heartbeat, in milliseconds.
    pub expires_ms: u64,
}

/// Keys, as they are listed.
#[derive(Deserialize)]
struct Listed {
    keys: Vec<String>,
}

/// The version that a variant became.
#[derive(Deserialize)]
struct Became {
    version: u64,
}

/// What a worker tells about itself.
#[derive(Debug, Clone, Serialize)]
pub struct Registration<'a> {
    /// Its name.
    pub worker: &'a str,
    /// Its devices.
    pub devices: &'a [Device],
    /// The kinds of job it takes.
    pub kinds: &'a [&'a str],
    /// Where it serves inference, if it does.
    pub inference_addr: Option<String>,
}

/// Asks for a job.
#[derive(Serialize)]
struct Asking<'a> {
    #[serde(flatten)]
    registration: &'a Registration<'a>,
    wait_ms: u64,
}

/// By what right an object is touched.
#[derive(Debug, Clone, Copy)]
pub enum Right<'a> {
    /// A job's, by the token of its lease.
    Lease(&'a str),
    /// It is the file of a model that a host told this worker to load, by the pass that came with that.
    Pass(&'a str),
}

/// How calls go out.
#[derive(Debug, Clone)]
enum Client {
    /// Without TLS.
    Plain(reqwest::Client),
    /// By certificates in files, which are looked at before each call.
    Tls(Watched<reqwest::Client>),
}

impl Client {
    fn now(&self) -> reqwest::Client {
        match self {
            Self::Plain(client) => client.clone(),
            Self::Tls(client) => client.get().as_ref().clone(),
        }
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().read_timeout(READ_TIMEOUT)
}

/// The host, as a worker sees it.
#[derive(Debug, Clone)]
pub struct Host {
    client: Client,
    base: Url,
    token: String,
}

impl Host {
    /// A client of the host at `address`, for example `http://127.0.0.1:8080`; `ca` is what it trusts for `https://`, and
    /// `identity` what it shows there.
    pub fn new(
        address: &str,
        token: &str,
        ca: Option<PathBuf>,
        identity: Option<Identity>,
    ) -> anyhow::Result<Self> {
        let base = Url::parse(address)
            .map_err(|e| anyhow::anyhow!("the host's address `{address}` is not a URL: {e}"))?;
        anyhow::ensure!(
            !base.cannot_be_a_base(),
            "the host's address `{address}` is not an http URL"
        );
        // reqwest wants the process's cryptography chosen before it makes a client; that it was chosen already is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = match (base.scheme(), ca) {
            ("https", None) => anyhow::bail!(
                "the host's address `{address}` is of a host that presents a certificate; `--host-ca` names what to trust"
            ),
            ("https", Some(ca)) => {
                let tls = tidegate_tls::client(ca, identity)?;
                Client::Tls(tls.then(|tls| Ok(builder().use_preconfigured_tls(tls.clone()).build()?))?)
            }
            _ => Client::Plain(builder().build()?),
        };
        Ok(Self {
            client,
            base,
            token: token.to_owned(),
        })
    }

    /// Introduces the worker.
    pub async fn register(&self, registration: &Registration<'_>) -> Result<(), HostError> {
        let request = self
            .request(Method::POST, &["register"])
            .json(registration)
            .timeout(CALL_TIMEOUT);
        send("register", request).await.map(drop)
    }

    /// Tells what the worker uses.
    pub async fn tell_usage(&self, usage: &Usage<'_>) -> Result<(), HostError> {
        let request = self
            .request(Method::POST, &["usage"])
            .json(usage)
            .timeout(CALL_TIMEOUT);
        send("usage", request).await.map(drop)
    }

    /// Waits up to `wait` for a job that the worker can do.
    pub async fn lease(
        &self,
        registration: &Registration<'_>,
        wait: Duration,
    ) -> Result<Option<Leased>, HostError> {
        let body = Asking {
            registration,
            wait_ms: wait.as_millis() as u64,
        };
        let request = self
            .request(Method::POST, &["lease"])
            .json(&body)
            .timeout(wait + CALL_TIMEOUT);
        let response = send("lease", request).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        read("lease", response).await.map(Some)
    }

    /// Keeps a lease and shows progress.
    pub async fn heartbeat(
        &self,
        job: &str,
        token: &str,
        progress: Option<&Progress>,
    ) -> Result<(), HostError> {
        let body = serde_json::json!({"token": token, "progress": progress});
        let request = self
            .request(Method::POST, &["jobs", job, "heartbeat"])
            .json(&body)
            .timeout(CALL_TIMEOUT);
        send("heartbeat", request).await.map(drop)
    }

    /// Ends a job with its outputs.
    pub async fn complete(&self, job: &str, token: &str, outputs: &Value) -> Result<(), HostError> {
        let body = serde_json::json!({"token": token, "outputs": outputs});
        let request = self
            .request(Method::POST, &["jobs", job, "complete"])
            .json(&body)
            .timeout(CALL_TIMEOUT);
        send("complete", request).await.map(drop)
    }

    /// Ends an attempt with a reason; `retry` asks for another.
    pub async fn fail(&self, job: &str, token: &str, reason: &str, retry: bool) -> Result<(), HostError> {
        let body = serde_json::json!({"token": token, "reason": reason, "retry": retry});
        let request = self
            .request(Method::POST, &["jobs", job, "fail"])
            .json(&body)
            .timeout(CALL_TIMEOUT);
        send("fail", request).await.map(drop)
    }

    /// Begins to read an object.
    pub async fn get(&self, bucket: &str, key: &str, right: Right<'_>) -> Result<Response, HostError> {
        let request = self.object(Method::GET, bucket, key, right);
        match send(&format!("reading object `{bucket}/{key}`"), request).await {
            Err(HostError::Refused { status: 404, .. }) => {
                Err(HostError::NotFound(format!("{bucket}/{key}")))
            }
            other => other,
        }
    }

    /// Reads a whole object.
    pub async fn read(&self, bucket: &str, key: &str, right: Right<'_>) -> Result<Bytes, HostError> {
        let response = self.get(bucket, key, right).await?;
        response
            .bytes()
            .await
            .map_err(|e| unavailable(&format!("reading object `{bucket}/{key}`"), &e))
    }

    /// Writes an object.
    pub async fn put(
        &self,
        bucket: &str,
        key: &str,
        lease: &str,
        content: impl Into<reqwest::Body>,
    ) -> Result<(), HostError> {
        let request = self
            .object(Method::PUT, bucket, key, Right::Lease(lease))
            .body(content);
        send(&format!("writing object `{bucket}/{key}`"), request)
            .await
            .map(drop)
    }

    /// Keys of a job's objects under a prefix, after one of them: some, in order, and none at the end.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        lease: &str,
    ) -> Result<Vec<String>, HostError> {
        let call = format!("listing `{bucket}/{prefix}`");
        let request = self
            .request(Method::GET, &["objects", bucket])
            .query(&[("prefix", Some(prefix)), ("after", after)])
            .header(LEASE_HEADER, lease)
            .timeout(CALL_TIMEOUT);
        let listed: Listed = read(&call, send(&call, request).await?).await?;
        Ok(listed.keys)
    }

    /// The version of a model that a job's reference stands for.
    pub async fn model(&self, reference: &str, lease: &str) -> Result<Registered, HostError> {
        let call = format!("looking up model `{reference}`");
        let request = self
            .request(Method::GET, &["models"])
            .query(&[("reference", reference)])
            .header(LEASE_HEADER, lease)
            .timeout(CALL_TIMEOUT);
        read(&call, send(&call, request).await?).await
    }

    /// Registers what a job made of a version of a model; the version that it became.
    pub async fn register_variant(&self, variant: &Variant<'_>, lease: &str) -> Result<u64, HostError> {
        let call = format!("registering a variant of model `{}`", variant.name);
        let request = self
            .request(Method::POST, &["models"])
            .json(variant)
            .header(LEASE_HEADER, lease)
            .timeout(READ_TIMEOUT);
        let became: Became = read(&call, send(&call, request).await?).await?;
        Ok(became.version)
    }

    fn object(&self, method: Method, bucket: &str, key: &str, right: Right<'_>) -> RequestBuilder {
        let path: Vec<&str> = ["objects", bucket].into_iter().chain(key.split('/')).collect();
        let request = self.request(method, &path);
        match right {
            Right::Lease(token) => request.header(LEASE_HEADER, token),
            Right::Pass(pass) => request.header(PASS_HEADER, pass),
        }
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["worker", "v1"]).extend(path);
        }
        let request = self.client.now().request(method, url).bearer_auth(&self.token);
        match tidegate_trace::current() {
            Some(context) => request.header("traceparent", context.to_string()),
            None => request,
        }
    }
}

async fn send(call: &str, request: RequestBuilder) -> Result<Response, HostError> {
    let response = request.send().await.map_err(|e| unavailable(call, &e))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    if status == StatusCode::CONFLICT {
        return Err(HostError::LeaseLost);
    }
    let body = response.text().await.unwrap_or_default();
    let reason: String = body.chars().take(500).collect();
    let call = call.to_owned();
    let later = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    if later {
        return Err(HostError::Unavailable {
            call,
            reason: format!("{status}: {reason}"),
        });
    }
    Err(HostError::Refused {
        call,
        status: status.as_u16(),
        reason,
    })
}

async fn read<T: serde::de::DeserializeOwned>(call: &str, response: Response) -> Result<T, HostError> {
    response.json().await.map_err(|e| unavailable(call, &e))
}

/// The whole chain of causes: reqwest's own message leaves out why.
fn unavailable(call: &str, error: &reqwest::Error) -> HostError {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        reason.push_str(&format!(": {error}"));
        cause = error.source();
    }
    HostError::Unavailable {
        call: call.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_host_says_what_it_lacks() {
        let refused = |address: &str, ca: Option<&str>| {
            let made = Host::new(address, "t", ca.map(Into::into), None);
            made.unwrap_err().to_string()
        };
        assert!(refused("here", None).contains("`here` is not a URL"));
        assert!(refused("https://host:8080", None).contains("`--host-ca` names what to trust"));
        let missing = refused("https://host:8080", Some("/nowhere/ca.crt"));
        assert!(missing.contains("`/nowhere/ca.crt` cannot be read"), "{missing}");
        let none = refused("https://host:8080", Some("/dev/null"));
        assert!(none.contains("`/dev/null` holds no certificate"), "{none}");
        assert!(Host::new("http://host:8080", "t", None, None).is_ok());
    }
}
