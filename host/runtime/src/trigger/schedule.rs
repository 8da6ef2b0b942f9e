//! Schedules: each fire is claimed by a conditional write, once in a fleet, in the commit that queues its event.
//!
//! Of every schedule the table `$schedules` keeps `FUNCTION/INDEX/last`, how far it has come, and
//! `FUNCTION/INDEX/TIME`, the fire that brought it there. A fire is committed only where its own row is absent
//! and `last` is still what this host has read; it takes the row of the fire before with it. So of two hosts
//! one fires, however late the other is, and the table does not grow with time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{INVOKE, fire_before_latest, latest_fire, next_fire};
use crate::dispatch::{NoRoom, has_room};
use crate::effects::Draft;
use crate::event::Event;
use crate::manifest::{Function, Misfire, Schedule, Trigger};
use crate::services::Services;
use crate::store::{CommitError, Condition, StateWrite, StoreError, Versioned};

/// The table of fires.
const SCHEDULES: &str = "$schedules";
/// A fire later than this was missed: no host ran. An earlier one is only late.
const GRACE: Duration = Duration::from_secs(60);
/// Fires of one schedule that are made up for at most, the latest ones.
const MOST_MADE_UP: usize = 100;
/// The pause before the store is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Fires the schedules of everything that is deployed.
pub struct Scheduler {
    services: Arc<Services>,
    stop: Mutex<CancellationToken>,
}

impl Scheduler {
    /// A scheduler with nothing to fire.
    pub fn new(services: Arc<Services>) -> Self {
        Self {
            services,
            stop: Mutex::new(CancellationToken::new()),
        }
    }

    /// Fires the schedules of these functions from now on, and no others.
    pub fn set(&self, functions: &[Arc<Function>]) {
        let stop = self.services.stopping.child_token();
        let before = std::mem::replace(
            &mut *self.stop.lock().unwrap_or_else(PoisonError::into_inner),
            stop.clone(),
        );
        before.cancel();
        for timer in self.timers(functions) {
            let stop = stop.clone();
            self.services.spawn(async move {
                stop.run_until_cancelled(timer.run()).await;
            });
        }
    }

    /// Fires what is due of the schedules of these functions.
    pub async fn fire_due(&self, functions: &[Arc<Function>]) -> Result<(), CommitError> {
        for timer in self.timers(functions) {
            timer.fire_due().await?;
        }
        Ok(())
    }

    fn timers(&self, functions: &[Arc<Function>]) -> impl Iterator<Item = Timer> {
        functions.iter().flat_map(move |function| {
            let schedules = function.triggers.iter().enumerate();
            schedules.filter_map(move |(index, trigger)| {
                let Trigger::Schedule(schedule) = trigger else {
                    return None;
                };
                Some(Timer {
                    services: self.services.clone(),
                    function: function.name.clone(),
                    index,
                    schedule: schedule.clone(),
                })
            })
        })
    }
}

/// The row `last`: how far a schedule has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    /// The fire, or when the schedule was first seen; in milliseconds since the Unix epoch.
    at: u64,
    /// The words of the schedule: a schedule that was changed starts anew.
    schedule: String,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Wait for this time and fire.
    Wait(u64),
    /// Fire now, in the name of this time.
    Fire(u64),
    /// Go on as if it had fired at this time.
    PassOver(u64),
    /// There is no more fire.
    End,
}

fn plan(schedule: &Schedule, last: u64, now: u64) -> Plan {
    let Some(next) = next_fire(schedule, last) else {
        return Plan::End;
    };
    if next > now {
        return Plan::Wait(next);
    }
    if schedule.misfire == Misfire::RunAll {
        let too_many = fire_before_latest(schedule, last, now, MOST_MADE_UP);
        return too_many.map_or(Plan::Fire(next), Plan::PassOver);
    }
    let missed_before = now.saturating_sub(GRACE.as_millis() as u64);
    match latest_fire(schedule, last, missed_before) {
        None => Plan::Fire(next),
        Some(missed) if schedule.misfire == Misfire::Skip => Plan::PassOver(missed),
        Some(_) => latest_fire(schedule, last, now).map_or(Plan::Fire(next), Plan::Fire),
    }
}

/// One schedule of one function.
struct Timer {
    services: Arc<Services>,
    function: String,
    index: usize,
    schedule: Schedule,
}

impl Timer {
    async fn run(self) {
        loop {
            match self.step().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(CommitError::Conflict { .. } | CommitError::Lost { .. }) => {
                    tracing::debug!(function = self.function, "another host was first to fire");
                }
                Err(error @ (CommitError::Store(_) | CommitError::TooLarge { .. })) => {
                    tracing::warn!(function = self.function, %error, "a schedule waits for the store");
                    self.services.clock.sleep(PAUSE).await;
                }
            }
        }
    }

    /// One fire, or one step towards it; false when there is nothing more to come.
    async fn step(&self) -> Result<bool, CommitError> {
        let now = self.services.clock.now_ms();
        let Some((last, version)) = self.last().await? else {
            self.begin(now).await?;
            return Ok(true);
        };
        match plan(&self.schedule, last, now) {
            Plan::Wait(time) => self.services.clock.sleep_until(time).await,
            Plan::Fire(time) if !self.has_room(time).await? => self.services.clock.sleep(PAUSE).await,
            Plan::Fire(time) => self.fire_or_pass_over(time, last, version).await?,
            Plan::PassOver(time) => self.pass_over(time, version).await?,
            Plan::End => return Ok(false),
        }
        Ok(true)
    }

    /// Fires all that is due, and waits for nothing.
    async fn fire_due(&self) -> Result<(), CommitError> {
        loop {
            let now = self.services.clock.now_ms();
            let Some((last, version)) = self.last().await? else {
                return unless_another_was_first(self.begin(now).await);
            };
            let went_on = match plan(&self.schedule, last, now) {
                Plan::Wait(_) | Plan::End => return Ok(()),
                Plan::Fire(time) if !self.has_room(time).await? => return Ok(()),
                Plan::Fire(time) => self.fire_or_pass_over(time, last, version).await,
                Plan::PassOver(time) => self.pass_over(time, version).await,
            };
            unless_another_was_first(went_on)?;
        }
    }

    async fn fire_or_pass_over(&self, time: u64, last: u64, version: u64) -> Result<(), CommitError> {
        match self.fire(time, last, version).await {
            // Its row is there: it fired before `last` was set back.
            Err(CommitError::Conflict { key, .. }) if key == self.key(&shown(time)) => {
                self.pass_over(time, version).await
            }
            fired => fired,
        }
    }

    /// Whether its function takes one more event. A fire that has to wait is late, and in the end a missed one.
    async fn has_room(&self, time: u64) -> Result<bool, StoreError> {
        match has_room(&self.services, &self.event(time)).await {
            Ok(()) => Ok(true),
            Err(NoRoom::Full(reason)) => {
                tracing::info!(function = self.function, fire = shown(time), %reason, "a fire waits");
                Ok(false)
            }
            Err(NoRoom::Store(error)) => Err(error),
        }
    }

    /// How far the schedule has come, as long as it is the same schedule.
    async fn last(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let row = self.row_last().await?;
        Ok(row.and_then(|row| {
            let last: Last = serde_json::from_slice(&row.value).ok()?;
            (last.schedule == self.words()).then_some((last.at, row.version))
        }))
    }

    /// Remembers that the schedule counts from now, also where another schedule was before.
    async fn begin(&self, now: u64) -> Result<(), CommitError> {
        let condition = self
            .row_last()
            .await?
            .map_or(Condition::Absent, |row| Condition::Version(row.version));
        let mut draft = Draft::new(&self.services);
        draft.unit.state.push(self.write_last(now, condition));
        draft.commit().await
    }

    async fn pass_over(&self, time: u64, version: u64) -> Result<(), CommitError> {
        tracing::info!(
            function = self.function,
            until = shown(time),
            "a schedule goes on without its past fires"
        );
        let mut draft = Draft::new(&self.services);
        draft
            .unit
            .state
            .push(self.write_last(time, Condition::Version(version)));
        draft.commit().await
    }

    async fn fire(&self, time: u64, last: u64, version: u64) -> Result<(), CommitError> {
        let mut draft = Draft::new(&self.services);
        draft
            .unit
            .state
            .push(self.write(&shown(time), Some(Bytes::new()), Condition::Absent));
        draft
            .unit
            .state
            .push(self.write(&shown(last), None, Condition::None));
        draft
            .unit
            .state
            .push(self.write_last(time, Condition::Version(version)));
        let due = time.saturating_add(self.offset(time));
        let delay = due
            .checked_sub(self.services.clock.now_ms())
            .filter(|delay| *delay > 0);
        draft.event(self.event(time), delay);
        draft.commit().await
    }

    /// How much later than its time the event of a fire begins: the same on every host.
    fn offset(&self, time: u64) -> u64 {
        let Ok(jitter @ 1..) = u64::try_from(self.schedule.jitter.as_millis()) else {
            return 0;
        };
        let hash = blake3::hash(self.key(&shown(time)).as_bytes());
        let drawn = hash
            .as_bytes()
            .iter()
            .take(8)
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        drawn % jitter
    }

    /// The event of one fire; its id is the same on every host.
    fn event(&self, time: u64) -> Event {
        let id = format!("schedule-{}-{}-{}", self.function, self.index, shown(time));
        Event {
            source: format!("/schedules/{}", self.function),
            kind: INVOKE.into(),
            subject: Some(self.function.clone()),
            time,
            content_type: Some("application/json".into()),
            data: Bytes::from(self.schedule.data.clone()),
            traceparent: self.services.new_traceparent(),
            run: self.services.new_id(),
            parent: None,
            part_of: None,
            id,
        }
    }

    async fn row_last(&self) -> Result<Option<Versioned>, StoreError> {
        self.services.store.get(SCHEDULES, &self.key("last")).await
    }

    fn write_last(&self, at: u64, condition: Condition) -> StateWrite {
        let last = Last {
            at,
            schedule: self.words(),
        };
        let value = serde_json::to_vec(&last).map(Bytes::from).unwrap_or_default();
        self.write("last", Some(value), condition)
    }

    fn write(&self, name: &str, value: Option<Bytes>, condition: Condition) -> StateWrite {
        StateWrite {
            table: SCHEDULES.into(),
            key: self.key(name),
            value,
            condition,
        }
    }

    fn words(&self) -> String {
        format!("{} {}", self.schedule.cron, self.schedule.timezone)
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.function, self.index)
    }
}

/// Another host fired: the next look sees it.
fn unless_another_was_first(done: Result<(), CommitError>) -> Result<(), CommitError> {
    match done {
        Err(CommitError::Conflict { .. } | CommitError::Lost { .. }) => Ok(()),
        done => done,
    }
}

/// A time as RFC 3339 has it, to the millisecond where it has any.
fn shown(time: u64) -> String {
    let time = i64::try_from(time)
        .ok()
        .and_then(DateTime::from_timestamp_millis)
        .unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests;
