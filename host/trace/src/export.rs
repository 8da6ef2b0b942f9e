//! The way of spans out of the process: a bounded queue, and one task that hands them to a collector.
//!
//! Nobody waits for it. A queue that is full drops what comes, a batch that the collector does not take is dropped
//! after a few tries, and both are counted.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::otlp;
use crate::span::Span;

/// Spans of one request at most.
const BATCH: usize = 512;
/// Tries of one batch.
const TRIES: u32 = 3;
/// The pause before the second try; each later one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// Where a collector takes spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    base: String,
    traces: Uri,
}

/// As it was written.
impl fmt::Display for Endpoint {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.base)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    /// Takes what `OTEL_EXPORTER_OTLP_ENDPOINT` holds: the collector's address, to which `/v1/traces` is added.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no address of a collector such as `http://127.0.0.1:4318`");
        let base: Uri = text.parse().map_err(|_| wrong())?;
        match base.scheme_str() {
            Some("http") if base.authority().is_some() && base.query().is_none() => {}
            Some("https") => {
                return Err(format!(
                    "`{text}`: spans are sent by plain HTTP only; run a collector on this machine and let it forward them"
                ));
            }
            _ => return Err(wrong()),
        }
        let traces = format!("{}/v1/traces", text.trim_end_matches('/'));
        Ok(Self {
            base: text.to_owned(),
            traces: traces.parse().map_err(|_| wrong())?,
        })
    }
}

/// How spans are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Spans that wait; more are dropped and counted.
    pub queue: usize,
    /// How long a span waits at most before it is sent.
    pub interval: Duration,
    /// How long the collector may take for one request.
    pub timeout: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            queue: 8192,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
        }
    }
}

/// Where spans are left: nowhere by default.
#[derive(Debug, Clone, Default)]
pub struct Spans(Option<Arc<Outlet>>);

#[derive(Debug)]
struct Outlet {
    queue: mpsc::Sender<Span>,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Spans {
    /// Whether anybody wants spans.
    pub fn are_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Leaves a span, where spans are wanted and its trace is recorded.
    pub fn record(&self, span: impl FnOnce() -> Option<Span>) {
        let Some(outlet) = &self.0 else { return };
        let Some(span) = span().filter(|span| span.context.is_sampled()) else {
            return;
        };
        if outlet.queue.try_send(span).is_err() {
            outlet.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Spans that a collector took.
    pub fn sent(&self) -> u64 {
        self.count(|outlet| &outlet.sent)
    }

    /// Spans that no collector will see.
    pub fn dropped(&self) -> u64 {
        self.count(|outlet| &outlet.dropped)
    }

    fn count(&self, which: impl FnOnce(&Outlet) -> &AtomicU64) -> u64 {
        let outlet = self.0.as_deref();
        outlet.map_or(0, |outlet| which(outlet).load(Ordering::Relaxed))
    }
}

/// The task that sends spans.
#[derive(Debug)]
pub struct Exporter {
    stop: CancellationToken,
    task: JoinHandle<()>,
    longest: Duration,
}

impl Exporter {
    /// Sends the spans that are left in what it returns to `endpoint`, as those of `service`.
    pub fn start(endpoint: Endpoint, tuning: Tuning, service: &'static str) -> (Self, Spans) {
        let (queue, waiting) = mpsc::channel(tuning.queue);
        let outlet = Arc::new(Outlet {
            queue,
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let sender = Sender {
            client: Client::builder(TokioExecutor::new()).build_http(),
            endpoint,
            tuning,
            service,
            outlet: outlet.clone(),
            stop: stop.clone(),
            silent: false,
        };
        let exporter = Self {
            stop,
            task: tokio::spawn(sender.run(waiting)),
            longest: tuning.timeout,
        };
        (exporter, Spans(Some(outlet)))
    }

    /// Sends what waits, once, and ends.
    pub async fn finish(self) {
        self.stop.cancel();
        if tokio::time::timeout(self.longest, self.task).await.is_err() {
            tracing::warn!("the collector does not answer; the last spans are lost");
        }
    }
}

struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: Endpoint,
    tuning: Tuning,
    service: &'static str,
    outlet: Arc<Outlet>,
    stop: CancellationToken,
    /// Whether the collector took nothing the last time: that is told once, not for each batch.
    silent: bool,
}

impl Sender {
    async fn run(mut self, mut waiting: mpsc::Receiver<Span>) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.gather(&mut waiting, &mut batch).await {
            self.send(&batch).await;
            batch.clear();
        }
    }

    /// Waits for a batch: until it is full, or its first span has waited for the interval, or the process ends.
    async fn gather(&self, waiting: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) -> bool {
        let fill = async {
            if waiting.recv_many(batch, BATCH).await == 0 {
                return;
            }
            let filling = async {
                while batch.len() < BATCH && waiting.recv_many(batch, BATCH - batch.len()).await > 0 {}
            };
            let _the_time_is_up = tokio::time::timeout(self.tuning.interval, filling).await;
        };
        if self.stop.run_until_cancelled(fill).await.is_none() {
            while batch.len() < BATCH
                && let Ok(span) = waiting.try_recv()
            {
                batch.push(span);
            }
        }
        !batch.is_empty()
    }

    async fn send(&mut self, batch: &[Span]) {
        let body = otlp::request(self.service, batch);
        let mut pause = PAUSE;
        let mut answer = self.offer(&body).await;
        for _ in 1..TRIES {
            if !matches!(answer, Err(Refusal { again: true, .. })) || self.stop.is_cancelled() {
                break;
            }
            self.stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause *= 2;
            answer = self.offer(&body).await;
        }
        let count = match &answer {
            Ok(()) => &self.outlet.sent,
            Err(_) => &self.outlet.dropped,
        };
        count.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.tell(answer.err());
    }

    fn tell(&mut self, refusal: Option<Refusal>) {
        let endpoint = &self.endpoint;
        match refusal {
            Some(Refusal { reason, .. }) if !self.silent => {
                tracing::warn!(%endpoint, reason, "the collector takes no spans; they are dropped and counted");
                self.silent = true;
            }
            None if self.silent => {
                tracing::info!(%endpoint, "the collector takes spans again");
                self.silent = false;
            }
            _ => {}
        }
    }

    async fn offer(&self, body: &Bytes) -> Result<(), Refusal> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.endpoint.traces.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.clone()))
            .map_err(|error| Refusal::for_good(error.to_string()))?;
        let asking = tokio::time::timeout(self.tuning.timeout, self.client.request(request));
        let answer = asking
            .await
            .map_err(|_| Refusal::for_now(format!("no answer within {:?}", self.tuning.timeout)))?
            .map_err(|error| Refusal::for_now(error.to_string()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            // Those that OTLP lets be tried again.
            status @ (StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => Err(Refusal::for_now(status.to_string())),
            status => Err(Refusal::for_good(status.to_string())),
        }
    }
}

/// Why the collector did not take a batch.
struct Refusal {
    reason: String,
    again: bool,
}

impl Refusal {
    fn for_now(reason: String) -> Self {
        Self { reason, again: true }
    }

    fn for_good(reason: String) -> Self {
        Self { reason, again: false }
    }
}

#[cfg(test)]
mod tests;
