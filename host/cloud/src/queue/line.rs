//! A queue as a host sees it: what it has got and not handed out, and who looks for more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_runtime::store::{Delivery, Depth, StoreError};
use tokio::sync::Notify;

use super::batches::Batches;
use super::messages::Message;
use crate::after::Letter;

/// How long a claim whose time is up waits for a look that waits for messages and began before it.
const GRACE: Duration = Duration::from_secs(10);
/// The shortest time that SQS waits; below it is asked and answered at once.
const SECOND: Duration = Duration::from_secs(1);

/// The longest time that SQS waits, in seconds.
const LONGEST: u64 = 20;

/// A queue.
pub(super) struct Line {
    pub(super) name: String,
    /// Where SQS has it; made at the first use.
    pub(super) url: tokio::sync::Mutex<Option<String>>,
    /// Whether this host made it in SQS, and sent no messages for the events that it has already.
    pub(super) untold: AtomicBool,
    /// Messages to send, and handles of messages to remove.
    pub(super) letters: Arc<Batches<Letter>>,
    pub(super) spent: Arc<Batches<String>>,
    /// How full it was, and when it was looked at.
    pub(super) depth: tokio::sync::Mutex<Option<(Instant, Depth)>>,
    inner: Mutex<Inner>,
    /// Something came, or a look has ended.
    pub(super) changed: Notify,
    /// Claims that wait.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    ready: VecDeque<(Instant, Delivery)>,
    /// Messages of events that are due soon, by that time.
    later: BTreeMap<(u64, u64), Message>,
    /// The looks that began, one at a time, and the last that ended.
    begun: u64,
    ended: u64,
    /// The last look waits for what comes.
    waits: bool,
    /// The last look found nothing.
    dry: bool,
    failure: Option<(u64, StoreError)>,
}

/// What a claim does next.
pub(super) enum Next {
    /// Hand out.
    Take(Vec<Delivery>),
    /// Say that the queue cannot be reached.
    Fail(StoreError),
    /// Look for messages: the number of the look, how many at most, and how long in seconds.
    Look(u64, usize, u64),
    /// Wait for a change.
    Wait,
}

/// A claim that waits.
pub(super) struct Claimer<'l> {
    line: &'l Line,
    max: usize,
    /// The first look that began after it came.
    first: u64,
    until: Instant,
}

impl Drop for Claimer<'_> {
    fn drop(&mut self) {
        self.line.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Claimer<'_> {
    /// When it looks up, whatever comes.
    pub(super) fn until(&self) -> Instant {
        let now = Instant::now();
        let times = [self.until, self.until + GRACE, now + SECOND];
        times.into_iter().find(|time| *time > now).unwrap_or(now)
    }
}

impl Line {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: tokio::sync::Mutex::default(),
            untold: AtomicBool::new(false),
            letters: Arc::default(),
            spent: Arc::default(),
            depth: tokio::sync::Mutex::default(),
            inner: Mutex::default(),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn claimer(&self, max: usize, wait: Duration) -> Claimer<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Claimer {
            line: self,
            max,
            first: self.inner().begun + 1,
            until: Instant::now() + wait,
        }
    }

    /// What a claim does next. Nothing is taken that is not handed out at once: a claim may be dropped while it waits.
    pub(super) fn next(&self, claimer: &Claimer<'_>) -> Next {
        let mut inner = self.inner();
        if let Some((look, error)) = &inner.failure
            && *look >= claimer.first
        {
            return Next::Fail(error.clone());
        }
        let left = claimer.until.saturating_duration_since(Instant::now());
        let looked = inner.ended >= claimer.first;
        let looking = inner.begun > inner.ended;
        let full = inner.ready.len() >= claimer.max;
        let all = !inner.ready.is_empty() && ((looked && inner.dry) || (looking && inner.waits));
        let over = left.is_zero() && (looked || (inner.waits && claimer.until.elapsed() >= GRACE));
        if full || all || over {
            let count = claimer.max.min(inner.ready.len());
            return Next::Take(inner.ready.drain(..count).map(|(_, delivery)| delivery).collect());
        }
        if looking || (looked && inner.dry && left < SECOND) {
            return Next::Wait;
        }
        let wait = if inner.ready.is_empty() {
            left.as_secs().min(LONGEST)
        } else {
            0
        };
        let room = claimer.max - inner.ready.len();
        inner.begun += 1;
        inner.waits = wait > 0;
        Next::Look(inner.begun, room, wait)
    }

    /// A look has ended: whether it found any message.
    pub(super) fn looked(&self, look: u64, found: Result<bool, StoreError>) {
        let mut inner = self.inner();
        inner.ended = look;
        match found {
            Ok(any) => inner.dry = !any,
            Err(error) => inner.failure = Some((look, error)),
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// A delivery to hand out.
    pub(super) fn arrive(&self, delivery: Delivery) {
        self.inner().ready.push_back((Instant::now(), delivery));
        self.changed.notify_waiters();
    }

    /// A message whose event is due soon.
    pub(super) fn arrive_later(&self, due: u64, message: Message) {
        self.inner().later.insert((due, message.place.seq), message);
    }

    /// The messages whose events are due, and when the next one is.
    pub(super) fn due(&self, now: u64) -> (Vec<Message>, Option<u64>) {
        let mut inner = self.inner();
        let still = inner.later.split_off(&(now + 1, 0));
        let due = std::mem::replace(&mut inner.later, still);
        let next = inner.later.keys().next().map(|(due, _)| *due);
        (due.into_values().collect(), next)
    }

    /// Deliveries that nobody wanted for so long.
    pub(super) fn unwanted(&self, age: Duration) -> Vec<Delivery> {
        // A claim that waits takes them when it has all that there are.
        if self.waiting.load(Ordering::Acquire) > 0 {
            return Vec::new();
        }
        let mut inner = self.inner();
        let old = inner.ready.iter().take_while(|(since, _)| since.elapsed() >= age);
        let count = old.count();
        inner.ready.drain(..count).map(|(_, delivery)| delivery).collect()
    }
}
