//! Requests to HTTP functions: how each went and what it logged, gathered off its way and written together.
//!
//! No request waits for its record, and none costs a commit of its own. Bounded on purpose: of each function only the
//! newest are kept, those that wait to be written included.

mod kept;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::kept::Kept;
use super::{LogLine, REQUESTS, Records, log_writes};
use crate::effects::EffectCounts;
use crate::event::Event;
use crate::manifest::Function;
use crate::sandbox::Usage;
use crate::services::Services;
use crate::store::{Condition, Order, StateWrite, StoreError, Unit};

/// Bytes of the lines that wait to be written, of each function; with more, the oldest requests are forgotten.
const WAITING_BYTES: usize = 4 << 20;
/// Characters of a path that are kept.
const PATH: usize = 1024;
/// Rows that are read in one go.
const PAGE: usize = 1000;

/// How many requests are kept, and how soon they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptRequests {
    /// The newest of each function.
    pub newest: usize,
    /// How long one waits at most before it is written.
    pub interval: Duration,
}

impl Default for KeptRequests {
    fn default() -> Self {
        Self {
            newest: 1000,
            interval: Duration::from_secs(2),
        }
    }
}

/// A request that a function has handled.
pub struct Handled {
    /// The function.
    pub spec: Arc<Function>,
    /// What the request is to what it set off; its subject is the path.
    pub event: Arc<Event>,
    /// The method.
    pub method: http::Method,
    /// Its `X-Request-Id`.
    pub request_id: Option<http::HeaderValue>,
    /// The answer's status.
    pub status: http::StatusCode,
    /// How long the invocation took, to the end of the answer's body.
    pub wall: Duration,
    /// What it took.
    pub usage: Usage,
    /// What it asked for, once that is committed.
    pub effects: EffectCounts,
    /// Why it failed.
    pub reason: Option<String>,
    /// What it logged.
    pub lines: Vec<LogLine>,
}

impl Handled {
    fn bytes(&self) -> usize {
        self.lines.iter().map(|line| line.message.len()).sum()
    }

    fn record(&self) -> RequestRecord {
        let (spec, event, context) = (&self.spec, &self.event, self.event.context());
        let id = self.request_id.as_ref().and_then(|id| id.to_str().ok());
        let path = event.subject.as_deref().unwrap_or_default();
        RequestRecord {
            run: event.run.clone(),
            request_id: id.map(str::to_owned),
            function: spec.name.clone(),
            version: spec.version,
            method: self.method.to_string(),
            path: path.chars().take(PATH).collect(),
            status: self.status.as_u16(),
            started: event.time,
            duration_ms: self.wall.as_secs_f64() * 1000.0,
            usage: self.usage,
            effects: self.effects,
            lines: self.lines.len(),
            reason: self.reason.clone(),
            trace_id: context.map(|context| context.trace_id()),
            span_id: context.map(|context| context.span_id()),
        }
    }

    /// The rows that keep it and its lines.
    fn writes(&self, record: &RequestRecord) -> impl Iterator<Item = StateWrite> {
        let value = serde_json::to_vec(record).map(Bytes::from).unwrap_or_default();
        let row = StateWrite {
            table: REQUESTS.into(),
            key: record.run.clone(),
            value: Some(value),
            condition: Condition::None,
        };
        let lines = log_writes(&self.lines, [(&*self.event, 1)], &self.spec, self.event.time);
        std::iter::once(row).chain(lines)
    }
}

/// One request to an HTTP function, as it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The run of its log lines and of what it set off.
    pub run: String,
    /// Its `X-Request-Id`.
    pub request_id: Option<String>,
    /// The function.
    pub function: String,
    /// The version of the function.
    pub version: u64,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The answer's status.
    pub status: u16,
    /// When it came, in milliseconds since the Unix epoch.
    pub started: u64,
    /// How long the invocation took, to the end of the answer's body.
    pub duration_ms: f64,
    /// What it took.
    pub usage: Usage,
    /// What it asked for, which was committed before the answer.
    pub effects: EffectCounts,
    /// The number of lines it logged.
    pub lines: usize,
    /// Why it failed.
    pub reason: Option<String>,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
    /// The invocation's span in it.
    pub span_id: Option<String>,
}

/// Which requests are wanted.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    /// Of this function only.
    pub function: Option<String>,
    /// Not before this time, in milliseconds since the Unix epoch.
    pub since: Option<u64>,
    /// Only those that failed, or were answered with a status of 500 or more.
    pub failed: bool,
}

impl RequestFilter {
    fn fits(&self, request: &RequestRecord) -> bool {
        let failed = request.reason.is_some() || request.status >= 500;
        (failed || !self.failed)
            && self.since.is_none_or(|since| request.started >= since)
            && self
                .function
                .as_ref()
                .is_none_or(|name| *name == request.function)
    }
}

/// The requests of a platform.
pub(super) struct Requests {
    bounds: KeptRequests,
    waiting: Mutex<Waiting>,
    /// What is written. Whoever writes holds it, so that a reader who waits for it misses nothing.
    kept: tokio::sync::Mutex<Option<Kept>>,
}

/// Requests that wait to be written.
#[derive(Default)]
struct Waiting {
    functions: BTreeMap<String, Newest>,
    /// Whether somebody is to write them.
    due: bool,
}

/// The newest requests of a function, oldest first.
#[derive(Default)]
struct Newest {
    requests: VecDeque<Handled>,
    bytes: usize,
}

impl Newest {
    fn push(&mut self, handled: Handled, newest: usize) {
        self.bytes += handled.bytes();
        self.requests.push_back(handled);
        while self.requests.len() > newest || (self.requests.len() > 1 && self.bytes > WAITING_BYTES) {
            let Some(oldest) = self.requests.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes();
        }
    }
}

impl Requests {
    pub(super) fn new(bounds: KeptRequests) -> Self {
        Self {
            bounds,
            waiting: Mutex::default(),
            kept: tokio::sync::Mutex::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request wait; whether somebody has to be told to write it.
    fn push(&self, handled: Handled) -> bool {
        let mut waiting = self.waiting();
        match waiting.functions.get_mut(&handled.spec.name) {
            Some(newest) => newest.push(handled, self.bounds.newest),
            None => {
                let name = handled.spec.name.clone();
                let newest = waiting.functions.entry(name).or_default();
                newest.push(handled, self.bounds.newest);
            }
        }
        !std::mem::replace(&mut waiting.due, true)
    }

    /// What was not written waits again, before what came meanwhile.
    fn put_back(&self, name: String, mut unwritten: VecDeque<Handled>) {
        let mut waiting = self.waiting();
        let newest = waiting.functions.entry(name).or_default();
        unwritten.append(&mut newest.requests);
        *newest = Newest::default();
        for handled in unwritten {
            newest.push(handled, self.bounds.newest);
        }
    }
}

/// Keeps how a request went: it is written with others, in a while or when somebody asks for them.
pub fn keep(services: &Arc<Services>, handled: Handled) {
    let requests = &services.records.requests;
    if requests.push(handled) {
        let (interval, writing) = (requests.bounds.interval, services.clone());
        services.spawn_leftover(async move {
            let pause = writing.clock.sleep(interval);
            writing.stopping.run_until_cancelled(pause).await;
            if let Err(error) = writing.records.write_requests().await {
                tracing::warn!(%error, "requests are not recorded; they wait for the next time");
            }
        });
    }
}

impl Records {
    /// Writes the requests that wait, each function's in a unit of its own.
    pub async fn write_requests(&self) -> Result<(), StoreError> {
        let requests = &self.requests;
        let mut kept = requests.kept.lock().await;
        let waiting = std::mem::take(&mut *requests.waiting());
        if waiting.functions.is_empty() {
            return Ok(());
        }
        let mut failed = None;
        for (name, newest) in waiting.functions {
            let written = self.write_newest(&mut kept, &newest.requests).await;
            if let Err(error) = written {
                requests.put_back(name, newest.requests);
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn write_newest(
        &self,
        kept: &mut Option<Kept>,
        newest: &VecDeque<Handled>,
    ) -> Result<(), StoreError> {
        let kept = match kept {
            Some(kept) => kept,
            None => kept.insert(Kept::read(&*self.store).await?),
        };
        let records: Vec<_> = newest.iter().map(Handled::record).collect();
        let rows = newest.iter().zip(&records);
        let unit = Unit {
            state: rows
                .flat_map(|(handled, record)| handled.writes(record))
                .collect(),
            ..Unit::default()
        };
        kept.add(&*self.store, unit, &records, self.requests.bounds.newest)
            .await
    }

    /// The latest requests that fit, newest first.
    pub async fn requests(
        &self,
        filter: &RequestFilter,
        limit: usize,
    ) -> Result<Vec<RequestRecord>, StoreError> {
        self.write_requests().await?;
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self
                .store
                .query(REQUESTS, "", after.as_deref(), PAGE, Order::Descending)
                .await?;
            let records = page.entries.iter().filter_map(|(_, row)| kept::read(row));
            found.extend(records.filter(|request| filter.fits(request)));
            after = page.next;
            if after.is_none() || found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
