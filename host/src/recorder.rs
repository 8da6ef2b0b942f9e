//! Records of requests and responses: gathered off the request's way, written as JSON Lines objects.
//!
//! Bounded on purpose: when the queue is full, a record is dropped and counted, and the request goes on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_runtime::Platform;
use tidegate_runtime::manifest::RecordSpec;
use tidegate_runtime::store::{Condition, Publication};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::api::metrics::HostMetrics;
use crate::config::RecorderConfig;

/// How often a batch is tried before it is dropped.
const TRIES: u32 = 3;
/// The largest object written, about; a batch is written when it reaches this size.
const BATCH_BYTES: usize = 32 << 20;

/// One request with its response.
#[derive(Debug, Clone)]
pub struct Record {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// The function.
    pub function: String,
    /// The path.
    pub path: String,
    /// The W3C trace context of the answer.
    pub traceparent: String,
    /// The answer's status.
    pub status: u16,
    /// How long it took.
    pub duration: Duration,
    /// The request's body.
    pub request: Bytes,
    /// The response's body.
    pub response: Bytes,
    /// Where records of this function go.
    pub place: Arc<Place>,
}

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// What the keys start with.
    pub prefix: String,
}

impl From<&RecordSpec> for Place {
    fn from(spec: &RecordSpec) -> Self {
        Self {
            bucket: spec.bucket.clone(),
            prefix: spec.prefix.clone(),
        }
    }
}

impl Record {
    fn line(&self) -> String {
        let line = json!({
            "at": self.at,
            "function": self.function,
            "path": self.path,
            "trace": self.traceparent.split('-').nth(1),
            "status": self.status,
            "duration_ms": self.duration.as_secs_f64() * 1000.0,
            "request": readable(&self.request),
            "response": readable(&self.response),
        });
        line.to_string()
    }

    fn bytes(&self) -> usize {
        self.request.len() + self.response.len() + 256
    }
}

/// JSON as it is; anything else as text.
fn readable(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

enum Message {
    Record(Box<Record>),
    Flush(oneshot::Sender<()>),
}

/// Takes records; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Message>,
    metrics: Arc<HostMetrics>,
}

impl Recorder {
    /// Starts the writer.
    pub fn start(platform: Arc<Platform>, config: RecorderConfig, metrics: Arc<HostMetrics>) -> Self {
        let (queue, taken) = mpsc::channel(config.queue);
        let writer = Writer {
            platform,
            config,
            metrics: metrics.clone(),
            waiting: Vec::new(),
            bytes: 0,
        };
        tokio::spawn(writer.run(taken));
        Self { queue, metrics }
    }

    /// Keeps a record if there is room for it.
    pub fn keep(&self, record: Record) {
        if self.queue.try_send(Message::Record(Box::new(record))).is_err() {
            self.metrics.records_dropped.inc();
        }
    }

    /// Waits until everything kept so far is written.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            let _the_writer_is_gone = written.await;
        }
    }
}

struct Writer {
    platform: Arc<Platform>,
    config: RecorderConfig,
    metrics: Arc<HostMetrics>,
    waiting: Vec<Record>,
    bytes: usize,
}

impl Writer {
    async fn run(mut self, mut taken: mpsc::Receiver<Message>) {
        let mut due = Instant::now() + self.config.interval;
        loop {
            let next = match self.waiting.is_empty() {
                true => taken.recv().await.map(Some),
                false => match tokio::time::timeout_at(due, taken.recv()).await {
                    Ok(message) => message.map(Some),
                    Err(_) => Some(None),
                },
            };
            match next {
                None => return self.write().await,
                Some(None) => self.write().await,
                Some(Some(Message::Flush(done))) => {
                    self.write().await;
                    let _nobody_waits = done.send(());
                }
                Some(Some(Message::Record(record))) => {
                    if self.waiting.is_empty() {
                        due = Instant::now() + self.config.interval;
                    }
                    self.bytes += record.bytes();
                    self.waiting.push(*record);
                    if self.waiting.len() >= self.config.batch || self.bytes >= BATCH_BYTES {
                        self.write().await;
                    }
                }
            }
        }
    }

    /// Writes what waits: one object for each place and day.
    async fn write(&mut self) {
        self.bytes = 0;
        let mut objects: HashMap<(Arc<Place>, String), Vec<Record>> = HashMap::new();
        for record in self.waiting.drain(..) {
            let date = chrono::DateTime::from_timestamp_millis(record.at as i64).unwrap_or_default();
            objects
                .entry((record.place.clone(), date.format("%Y-%m-%d").to_string()))
                .or_default()
                .push(record);
        }
        for ((place, date), records) in objects {
            self.write_object(&place, &date, &records).await;
        }
    }

    async fn write_object(&self, place: &Place, date: &str, records: &[Record]) {
        let lines: String = records.iter().map(|record| record.line() + "\n").collect();
        let key = format!("{}date={date}/{}.jsonl", place.prefix, ulid::Ulid::new());
        let lines = Bytes::from(lines);
        let count = records.len() as u64;
        for attempt in 1..=TRIES {
            match self.publish(place, &key, lines.clone()).await {
                Ok(()) => {
                    self.metrics.recorded.inc_by(count);
                    return;
                }
                Err(error) => tracing::warn!(
                    key,
                    attempt,
                    error = format!("{error:#}"),
                    "records are not written"
                ),
            }
            tokio::time::sleep(Duration::from_millis(100) * attempt).await;
        }
        self.metrics.records_dropped.inc_by(count);
    }

    async fn publish(&self, place: &Place, key: &str, lines: Bytes) -> anyhow::Result<()> {
        let mut stage = self.platform.store().stage().await?;
        stage.write(lines).await?;
        let staged = Some(stage.finish().await?);
        let publication = Publication {
            bucket: place.bucket.clone(),
            key: key.to_owned(),
            staged,
            content_type: Some("application/x-ndjson".into()),
            user: BTreeMap::new(),
            condition: Condition::None,
        };
        self.platform.publish(publication).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_json_as_json_and_the_rest_as_text() {
        let record = Record {
            at: 5,
            function: "rank".into(),
            path: "/predict".into(),
            traceparent: "00-abc-def-01".into(),
            status: 400,
            duration: Duration::from_micros(1500),
            request: Bytes::from_static(b"{broken"),
            response: Bytes::from_static(b"{\"error\":1}"),
            place: Arc::new(Place {
                bucket: "data".into(),
                prefix: "predictions/".into(),
            }),
        };
        let line: Value = serde_json::from_str(&record.line()).unwrap();
        assert_eq!(line["request"], "{broken");
        assert_eq!(line["response"]["error"], 1);
        assert_eq!(line["duration_ms"], 1.5);
        assert_eq!(line["trace"], "abc");
        assert!(!record.line().contains('\n'));
    }
}
