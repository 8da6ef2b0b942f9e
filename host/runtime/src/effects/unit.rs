//! From effects to the one unit that commits them: routing, records and the done marker included.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_trace::{Kind, Span};

use super::join::Counted;
use super::{Emission, Staged, Submission};
use crate::event::Event;
use crate::jobs::{Job, WAITING};
use crate::manifest::Function;
use crate::records::{Notice, RunHead, StepRecord, event_write};
use crate::services::Services;
use crate::store::{CommitError, Condition, Enqueue, Publication, StateWrite, Unit};
use crate::trigger::{Router, object_created};

/// The table of done markers.
pub const DONE: &str = "$done";

/// The key of the marker that a function has handled an event.
pub fn done_key(function: &str, event: &str) -> String {
    format!("{function}/{event}")
}

/// How a function's handling of an event ended: what the marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its effects are committed.
    Done,
    /// It will not be tried again.
    Dead,
}

impl Ending {
    const DONE_TAG: u8 = 0;
    const DEAD_TAG: u8 = 1;

    /// The value of a marker that is set at a time: the time, then the ending.
    pub fn write(self, now: u64) -> Bytes {
        let tag = match self {
            Self::Done => Self::DONE_TAG,
            Self::Dead => Self::DEAD_TAG,
        };
        Bytes::from([now.to_be_bytes().as_slice(), &[tag]].concat())
    }

    /// The ending that a marker tells of.
    pub fn read(marker: &[u8]) -> Option<Self> {
        match marker.get(8) {
            None | Some(&Self::DONE_TAG) => Some(Self::Done),
            Some(&Self::DEAD_TAG) => Some(Self::Dead),
            Some(_) => None,
        }
    }
}

/// A unit in the making.
pub struct Draft<'a> {
    services: &'a Services,
    pub(super) now: u64,
    /// Kept until the commit has ended: a version drains only when nobody can route to it any more.
    router: Arc<Router>,
    /// What will be committed.
    pub unit: Unit,
    entered: Vec<Arc<Event>>,
    pub(super) joins: BTreeMap<String, Counted>,
}

/// Where new events come from.
pub struct Cause<'a> {
    /// The CloudEvents source.
    pub source: String,
    /// The event whose handling caused them; none at the root of a run.
    pub parent: Option<&'a Event>,
}

impl<'a> Draft<'a> {
    /// Nothing yet.
    pub fn new(services: &'a Services) -> Self {
        Self {
            services,
            now: services.clock.now_ms(),
            router: services.router(),
            unit: Unit::default(),
            entered: Vec::new(),
            joins: BTreeMap::new(),
        }
    }

    /// Commits, and tells the followers which events entered.
    pub async fn commit(mut self) -> Result<(), CommitError> {
        self.unit.counts = self.counts().collect();
        let queues: Vec<String> = self.unit.enqueue.iter().map(|sent| sent.queue.clone()).collect();
        let mut waiting = self.unit.state.iter().filter(|write| write.table == WAITING);
        let jobs = waiting.any(|write| write.value.is_some());
        self.services.store.commit(self.unit).await?;
        if jobs {
            self.services.queued_jobs.notify_waiters();
        }
        for queue in queues {
            self.services.metrics.sent(&queue);
        }
        for event in self.entered {
            self.services.spans().record(|| entry(&event, self.now));
            self.services.records.tell(|| Notice::entered(&event, self.now));
        }
        Ok(())
    }

    /// Who gets which event of this unit.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The ids of the events that enter with this unit.
    pub fn entered(&self) -> impl Iterator<Item = &str> {
        self.entered.iter().map(|event| event.id.as_str())
    }

    /// Marks the function's handling of an event (or a request) as ended; a second marker is a conflict.
    pub fn ended(&mut self, function: &str, event: &str, ending: Ending) {
        self.mark(function, event, Some(ending.write(self.now)));
    }

    /// Lets the unit commit only where the function's handling of the event has not ended.
    pub fn unended(&mut self, function: &str, event: &str) {
        self.mark(function, event, None);
    }

    fn mark(&mut self, function: &str, event: &str, value: Option<Bytes>) {
        self.unit.state.push(StateWrite {
            table: DONE.into(),
            key: done_key(function, event),
            value,
            condition: Condition::Absent,
        });
    }

    /// Adds an event: a copy for every subscriber, a waiting step for each.
    pub fn event(&mut self, event: Event, delay: Option<u64>) {
        let targets = self.router.route(&event);
        let event = Arc::new(event);
        if event.parent.is_none() && !targets.is_empty() {
            self.unit.state.push(RunHead::write_for(&event));
        }
        if !targets.is_empty() {
            self.unit.state.extend(event_write(&event, self.now));
        }
        self.part(&event, targets.len() as i64);
        let not_before = delay.map(|delay| self.now.saturating_add(delay));
        for target in targets {
            let step = StepRecord {
                version: Some(target.version),
                ..StepRecord::queued(&event, &target.function, not_before.unwrap_or(self.now))
            };
            self.unit.state.push(step.into_write(&event.run));
            self.unit.enqueue.push(Enqueue {
                group: self.router.group(&target, &event),
                queue: target.queue(),
                event: event.clone(),
                not_before,
                attempt: 1,
            });
        }
        self.entered.push(event);
    }

    /// Adds a publication, and the event that it happened.
    pub fn object(&mut self, publication: Publication, cause: &Cause<'_>) {
        if publication.staged.is_some()
            && let Some(event) = object_created(&publication, self.now)
        {
            let event = self.caused(event, cause);
            self.event(event, None);
        }
        self.unit.objects.push(publication);
    }

    /// Adds everything a function staged while it handled an event.
    pub fn staged(&mut self, staged: Staged, function: &Function, handled: &Event) {
        let cause = Cause {
            source: format!("/functions/{}", function.name),
            parent: Some(handled),
        };
        self.unit.state.extend(staged.state);
        for publication in staged.objects {
            self.object(publication, &cause);
        }
        for submission in staged.jobs {
            self.job(submission, &function.tenant, handled);
        }
        for opened in &staged.joins {
            self.open(opened, handled);
        }
        for emission in staged.events {
            let delay = emission.delay;
            let event = self.emitted(emission, &cause);
            self.event(event, delay);
        }
    }

    fn job(&mut self, submission: Submission, tenant: &str, handled: &Event) {
        let job = Job::submitted(submission, tenant, handled, self.now);
        self.part(&job.event(), 1);
        self.unit.state.push(job.step().into_write(&job.run));
        self.unit.state.push(job.wait(self.now));
        self.unit.state.push(job.write(Condition::Absent));
    }

    fn emitted(&self, emission: Emission, cause: &Cause<'_>) -> Event {
        let event = Event {
            id: emission.id,
            source: cause.source.clone(),
            kind: emission.kind,
            subject: emission.subject,
            time: self.now,
            content_type: emission.content_type,
            data: emission.data,
            traceparent: String::new(),
            run: String::new(),
            parent: None,
            part_of: emission.part_of,
        };
        self.caused(event, cause)
    }

    /// Puts the event in the run and the trace of its cause, or at the root of new ones.
    fn caused(&self, mut event: Event, cause: &Cause<'_>) -> Event {
        match cause.parent {
            Some(parent) => {
                event.run.clone_from(&parent.run);
                event.parent = Some(parent.id.clone());
                event.traceparent.clone_from(&parent.traceparent);
            }
            None => {
                event.run = self.services.new_id();
                event.traceparent = self.services.new_traceparent();
            }
        }
        event
    }
}

/// The span of an event's entry from outside. What a function emits stands below the function's own span.
fn entry(event: &Event, now: u64) -> Option<Span> {
    if event.parent.is_some() {
        return None;
    }
    let (context, at) = (event.context()?, now.saturating_mul(1_000_000));
    // Where a request brought it, the span of the request is above it.
    let above = tidegate_trace::current().filter(|above| above.trace_id() == context.trace_id());
    let span = Span::new(
        context,
        above,
        Kind::Producer,
        format!("send {}", event.kind),
        (at, at),
    )
    .with("messaging.system", "tidegate")
    .with("messaging.operation.name", "send")
    .with("messaging.operation.type", "send")
    .with("messaging.message.id", event.id.as_str())
    .with("cloudevents.event_id", event.id.as_str())
    .with("cloudevents.event_source", event.source.as_str())
    .with("cloudevents.event_type", event.kind.as_str())
    .with_some("cloudevents.event_subject", event.subject.as_deref())
    .with("tidegate.run", event.run.as_str());
    Some(span)
}
