//! Records of requests and responses: gathered off the request's way, written as JSON Lines objects.
//!
//! Bounded on purpose: when the queue is full, a record is dropped and counted, and the request goes on.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
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
    /// Appends the record as a line of JSON.
    fn write(&self, into: &mut Vec<u8>) -> serde_json::Result<()> {
        let line = Line {
            at: self.at,
            function: &self.function,
            path: &self.path,
            trace: self.traceparent.split('-').nth(1),
            status: self.status,
            duration_ms: self.duration.as_secs_f64() * 1000.0,
            request: readable(&self.request),
            response: readable(&self.response),
        };
        serde_json::to_writer(&mut *into, &line)?;
        into.push(b'\n');
        Ok(())
    }

    fn date(&self) -> String {
        let at = chrono::DateTime::from_timestamp_millis(self.at as i64).unwrap_or_default();
        at.format("%Y-%m-%d").to_string()
    }
}

/// What a line holds.
#[derive(Serialize)]
struct Line<'a> {
    at: u64,
    function: &'a str,
    path: &'a str,
    trace: Option<&'a str>,
    status: u16,
    duration_ms: f64,
    request: Readable<'a>,
    response: Readable<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Readable<'a> {
    Json(&'a RawValue),
    Lines(Value),
    Text(Cow<'a, str>),
}

/// JSON as it is, in one line; anything else as text.
fn readable(bytes: &[u8]) -> Readable<'_> {
    let read = match bytes.contains(&b'\n') {
        false => serde_json::from_slice(bytes).map(Readable::Json),
        true => serde_json::from_slice(bytes).map(Readable::Lines),
    };
    read.unwrap_or_else(|_| Readable::Text(String::from_utf8_lossy(bytes)))
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
            waiting: HashMap::new(),
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

/// What will be one object.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    records: u64,
}

struct Writer {
    platform: Arc<Platform>,
    config: RecorderConfig,
    metrics: Arc<HostMetrics>,
    /// A batch for each place and day.
    waiting: HashMap<(Arc<Place>, String), Batch>,
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
                    if self.add(&record) {
                        self.write().await;
                    }
                }
            }
        }
    }

    /// Adds a record to its batch; whether that is full. Each is formatted as it comes, so that no request waits
    /// while a whole batch is.
    fn add(&mut self, record: &Record) -> bool {
        let batch = self
            .waiting
            .entry((record.place.clone(), record.date()))
            .or_default();
        let end = batch.lines.len();
        match record.write(&mut batch.lines) {
            Ok(()) => batch.records += 1,
            Err(error) => {
                batch.lines.truncate(end);
                self.metrics.records_dropped.inc();
                tracing::warn!(%error, path = record.path, "a record is not written");
            }
        }
        batch.records >= self.config.batch as u64 || batch.lines.len() >= BATCH_BYTES
    }

    /// Writes what waits: one object for each place and day.
    async fn write(&mut self) {
        for ((place, date), batch) in std::mem::take(&mut self.waiting) {
            self.write_object(&place, &date, batch).await;
        }
    }

    async fn write_object(&self, place: &Place, date: &str, batch: Batch) {
        let key = format!("{}date={date}/{}.jsonl", place.prefix, ulid::Ulid::new());
        let (lines, count) = (Bytes::from(batch.lines), batch.records);
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
        let written = |record: &Record| {
            let mut line = Vec::new();
            record.write(&mut line).unwrap();
            String::from_utf8(line).unwrap()
        };
        let line: Value = serde_json::from_str(&written(&record)).unwrap();
        assert_eq!(line["request"], "{broken");
        assert_eq!(line["response"]["error"], 1);
        assert_eq!(line["duration_ms"], 1.5);
        assert_eq!(line["trace"], "abc");
        let record = Record {
            request: Bytes::from_static(b"{\n  \"user_id\": 1\n}"),
            ..record
        };
        assert_eq!(written(&record).matches('\n').count(), 1);
        assert!(written(&record).contains(r#""request":{"user_id":1}"#));
    }
}
