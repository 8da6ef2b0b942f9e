//! Schedules: each fire is a row written once in a fleet, in the commit that queues its event.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeZone as _, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use tokio_util::sync::CancellationToken;

use crate::effects::Draft;
use crate::event::Event;
use crate::manifest::{Function, Misfire, Schedule, Trigger};
use crate::services::Services;
use crate::store::{CommitError, Condition, StateWrite, StoreError};

/// The table of fires: `FUNCTION/INDEX/last` and `FUNCTION/INDEX/TIME`.
const SCHEDULES: &str = "$schedules";

/// Reads a cron expression of five fields, or of six with seconds first.
pub fn parse_cron(cron: &str) -> Result<Cron, croner::errors::CronError> {
    CronParser::builder().seconds(Seconds::Optional).build().parse(cron)
}

/// The first fire after a time, in milliseconds since the Unix epoch; none when there is no more.
///
/// A local time that daylight saving skips fires right after the gap; one that it repeats fires once.
pub fn next_fire(schedule: &Schedule, after: u64) -> Option<u64> {
    let after: DateTime<Utc> = Utc.timestamp_millis_opt(i64::try_from(after).ok()?).single()?;
    let local = after.with_timezone(&schedule.timezone);
    let next = parse_cron(&schedule.cron).ok()?.find_next_occurrence(&local, false).ok()?;
    u64::try_from(next.timestamp_millis()).ok()
}

/// Fires the schedules of everything that is deployed.
pub struct Scheduler {
    services: Arc<Services>,
    stop: Mutex<CancellationToken>,
}

impl Scheduler {
    /// A scheduler with nothing to fire.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services, stop: Mutex::new(CancellationToken::new()) }
    }

    /// Fires the schedules of these functions from now on, and no others.
    pub fn set(&self, functions: &[Arc<Function>]) {
        let stop = self.services.stopping.child_token();
        let before = std::mem::replace(&mut *self.stop.lock().unwrap_or_else(PoisonError::into_inner), stop.clone());
        before.cancel();
        for function in functions {
            for (index, trigger) in function.triggers.iter().enumerate() {
                if let Trigger::Schedule(schedule) = trigger {
                    let timer = Timer {
                        services: self.services.clone(),
                        function: function.name.clone(),
                        index,
                        schedule: schedule.clone(),
                        stop: stop.clone(),
                    };
                    self.services.spawn(timer.run());
                }
            }
        }
    }
}

struct Timer {
    services: Arc<Services>,
    function: String,
    index: usize,
    schedule: Schedule,
    stop: CancellationToken,
}

impl Timer {
    async fn run(self) {
        let Some(mut last) = self.last_fire().await else { return };
        while let Some(mut next) = next_fire(&self.schedule, last) {
            let now = self.services.clock.now_ms();
            if next < now {
                next = self.latest_missed(next, now);
                if self.schedule.misfire == Misfire::Skip {
                    last = next;
                    continue;
                }
            }
            if !self.wait_until(next).await {
                return;
            }
            match self.fire(next).await {
                Ok(()) | Err(CommitError::Conflict { .. } | CommitError::Lost { .. }) => last = next,
                Err(CommitError::Store(error)) => self.pause(&error).await,
            }
        }
    }

    /// When it fired last; now, where it never did. None when the platform stops first.
    async fn last_fire(&self) -> Option<u64> {
        while !self.stop.is_cancelled() {
            match self.services.store.get(SCHEDULES, &self.key("last")).await {
                Ok(row) => {
                    let last = row.and_then(|row| std::str::from_utf8(&row.value).ok()?.parse().ok());
                    return Some(last.unwrap_or_else(|| self.services.clock.now_ms()));
                }
                Err(error) => self.pause(&error).await,
            }
        }
        None
    }

    /// The last fire before now, given one that was missed.
    fn latest_missed(&self, mut missed: u64, now: u64) -> u64 {
        while let Some(later) = next_fire(&self.schedule, missed).filter(|later| *later < now) {
            missed = later;
        }
        missed
    }

    /// Waits in short steps, so that a changed clock is noticed. False when the platform stops first.
    async fn wait_until(&self, time: u64) -> bool {
        const STEP: Duration = Duration::from_secs(10);
        loop {
            let left = time.saturating_sub(self.services.clock.now_ms());
            if left == 0 {
                return !self.stop.is_cancelled();
            }
            let sleep = tokio::time::sleep(STEP.min(Duration::from_millis(left)));
            if self.stop.run_until_cancelled(sleep).await.is_none() {
                return false;
            }
        }
    }

    async fn fire(&self, time: u64) -> Result<(), CommitError> {
        let id = format!("schedule-{}-{}-{time}", self.function, self.index);
        let event = Event {
            id,
            source: format!("/schedules/{}", self.function),
            kind: "tidegate.invoke".into(),
            subject: Some(self.function.clone()),
            time,
            content_type: Some("application/json".into()),
            data: Bytes::from(self.schedule.data.clone()),
            traceparent: self.services.new_traceparent(),
            run: self.services.new_id(),
            parent: None,
        };
        let mut draft = Draft::new(&self.services);
        draft.unit.state.push(self.row(&time.to_string(), Condition::Absent, time));
        draft.unit.state.push(self.row("last", Condition::None, time));
        draft.event(event, None);
        draft.commit().await
    }

    fn row(&self, name: &str, condition: Condition, time: u64) -> StateWrite {
        let value = Some(Bytes::from(time.to_string()));
        StateWrite { table: SCHEDULES.into(), key: self.key(name), value, condition }
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.function, self.index)
    }

    async fn pause(&self, error: &StoreError) {
        tracing::warn!(function = self.function, %error, "a schedule waits for the store");
        self.stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fires(cron: &str, zone: chrono_tz::Tz, from: &str, count: usize) -> Vec<String> {
        let schedule =
            Schedule { cron: cron.into(), timezone: zone, data: "{}".into(), misfire: Misfire::RunOnce };
        let mut at = DateTime::parse_from_rfc3339(from).unwrap().timestamp_millis() as u64;
        let mut found = Vec::new();
        for _ in 0..count {
            at = next_fire(&schedule, at).unwrap();
            found.push(Utc.timestamp_millis_opt(at as i64).unwrap().format("%m-%dT%H:%M").to_string());
        }
        found
    }

    #[test]
    fn a_skipped_local_time_fires_right_after_the_gap() {
        let found = fires("30 2 * * *", chrono_tz::Europe::Berlin, "2026-03-28T00:00:00Z", 3);
        assert_eq!(found, ["03-28T01:30", "03-29T01:00", "03-30T00:30"]);
    }

    #[test]
    fn a_repeated_local_time_fires_once() {
        let found = fires("30 2 * * *", chrono_tz::Europe::Berlin, "2026-10-24T12:00:00Z", 2);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0][..5], *"10-25");
        assert_eq!(found[1], "10-26T01:30");
    }

    #[test]
    fn seconds_are_optional() {
        assert_eq!(fires("*/30 * * * * *", chrono_tz::UTC, "2026-01-01T00:00:10Z", 2), ["01-01T00:00", "01-01T00:01"]);
        assert!(parse_cron("99 * * * *").is_err());
    }
}
