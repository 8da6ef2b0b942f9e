//! When a cron expression fires, daylight saving included.
//!
//! A schedule whose hour field covers every hour (`*/5 * * * *`) counts time: it keeps its pace through a
//! change of the clocks. Any other names hours of the day: a local time that the change skips fires once,
//! right after the gap, and one that it repeats fires once, the first time.

use chrono::{DateTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};

use crate::manifest::Schedule;

/// Local times that may be passed over in the search for one that fires: more than any change of the
/// clocks skips or repeats.
const PASSED_OVER: usize = 100_000;

/// Reads a cron expression of five fields, or of six with seconds first, or a nickname such as `@daily`.
pub fn parse_cron(cron: &str) -> Result<Cron, CronError> {
    CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build()
        .parse(cron)
}

/// The first fire strictly after a time, in milliseconds since the Unix epoch; none when there is no more.
///
/// It never goes down when `after` goes up.
pub fn next_fire(schedule: &Schedule, after: u64) -> Option<u64> {
    let cron = parse_cron(&schedule.cron).ok()?;
    let after = Utc.timestamp_opt(i64::try_from(after / 1000).ok()?, 0).single()?;
    let next = Search {
        cron: &cron,
        zone: schedule.timezone,
        after,
    }
    .next()?;
    u64::try_from(next.timestamp_millis()).ok()
}

/// The last fire at or before `now`, of those strictly after `after`.
///
/// Found by bisection, so that years of missed seconds cost no more than a missed day.
pub fn latest_fire(schedule: &Schedule, after: u64, now: u64) -> Option<u64> {
    let is_due = |after: u64| next_fire(schedule, after).filter(|fire| *fire <= now);
    let (mut found, mut low, mut high) = (is_due(after)?, after, now);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        match is_due(middle) {
            Some(later) => (found, low) = (later, middle),
            None => high = middle,
        }
    }
    Some(found)
}

/// The fire before the latest `most` of those after `after` up to `now`; none where there are no more than that.
pub fn fire_before_latest(schedule: &Schedule, after: u64, now: u64, most: usize) -> Option<u64> {
    let is_due = |fire: &u64| *fire <= now;
    let due = |last: &u64| next_fire(schedule, *last).filter(is_due);
    std::iter::successors(due(&after), due).nth(most)?;
    let earlier = |fire: &u64| latest_fire(schedule, after, fire - 1);
    std::iter::successors(latest_fire(schedule, after, now), earlier).nth(most)
}

/// One search for the next fire.
struct Search<'c> {
    cron: &'c Cron,
    zone: Tz,
    after: DateTime<Utc>,
}

impl Search<'_> {
    fn next(&self) -> Option<DateTime<Utc>> {
        let local = self.after.with_timezone(&self.zone).naive_local();
        if self.cron.pattern.hours.is_all_set() {
            let again = self
                .end_of_first_pass()
                .and_then(|start| self.instant_from(start - TimeDelta::seconds(1)));
            return [self.instant_from(local), again].into_iter().flatten().min();
        }
        self.instant_from(local)
    }

    /// The first instant after `self.after` that a matching local time after `local` stands for.
    fn instant_from(&self, mut local: NaiveDateTime) -> Option<DateTime<Utc>> {
        let counts_time = self.cron.pattern.hours.is_all_set();
        for _ in 0..PASSED_OVER {
            local = self
                .cron
                .find_next_occurrence(&local.and_utc(), false)
                .ok()?
                .naive_utc();
            let stands_for = match self.zone.from_local_datetime(&local) {
                chrono::LocalResult::Single(at) => Some(at.to_utc()),
                chrono::LocalResult::Ambiguous(first, _) if first.to_utc() > self.after => {
                    Some(first.to_utc())
                }
                chrono::LocalResult::Ambiguous(_, second) => counts_time.then(|| second.to_utc()),
                chrono::LocalResult::None => (!counts_time).then(|| self.end_of_gap(local)),
            };
            if let Some(at) = stands_for.filter(|at| *at > self.after) {
                return Some(at);
            }
        }
        None
    }

    /// The local time at which the clocks start again, when `after` is in the first pass of repeated hours.
    fn end_of_first_pass(&self) -> Option<NaiveDateTime> {
        let local = self.after.with_timezone(&self.zone).naive_local();
        let chrono::LocalResult::Ambiguous(first, second) = self.zone.from_local_datetime(&local) else {
            return None;
        };
        if first.to_utc() != self.after {
            return None;
        }
        let before = self.offset(self.after);
        let change = bisect(self.after, second.to_utc(), |at| self.offset(at) != before);
        Some(change.with_timezone(&self.zone).naive_local())
    }

    /// The first instant after the gap that holds the local time.
    fn end_of_gap(&self, local: NaiveDateTime) -> DateTime<Utc> {
        let around = local.and_utc();
        bisect(around - TimeDelta::days(2), around + TimeDelta::days(2), |at| {
            at.with_timezone(&self.zone).naive_local() > local
        })
    }

    fn offset(&self, at: DateTime<Utc>) -> TimeDelta {
        let seconds = self
            .zone
            .offset_from_utc_datetime(&at.naive_utc())
            .fix()
            .local_minus_utc();
        TimeDelta::seconds(i64::from(seconds))
    }
}

/// The first second after `low`, at most `high`, at which something holds that holds from then on.
fn bisect(low: DateTime<Utc>, high: DateTime<Utc>, holds: impl Fn(DateTime<Utc>) -> bool) -> DateTime<Utc> {
    let (mut low, mut high) = (low.timestamp(), high.timestamp());
    let at = |second| DateTime::from_timestamp(second, 0).unwrap_or_default();
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if holds(at(middle)) {
            high = middle
        } else {
            low = middle
        }
    }
    at(high)
}

#[cfg(test)]
mod tests {
    use chrono_tz::{America, Asia, Australia, Europe};
    use proptest::prelude::*;

    use super::*;
    use std::time::Duration;

    use crate::manifest::Misfire;

    fn schedule(cron: &str, timezone: Tz) -> Schedule {
        Schedule {
            cron: cron.into(),
            timezone,
            data: "{}".into(),
            misfire: Misfire::RunOnce,
            jitter: Duration::ZERO,
        }
    }

    fn ms(time: &str) -> u64 {
        DateTime::parse_from_rfc3339(time).unwrap().timestamp_millis() as u64
    }

    fn shown(at: u64) -> String {
        DateTime::from_timestamp_millis(at as i64)
            .unwrap()
            .format("%m-%dT%H:%M:%S")
            .to_string()
    }

    fn fires(cron: &str, timezone: Tz, from: &str, count: usize) -> Vec<String> {
        let schedule = schedule(cron, timezone);
        let all = std::iter::successors(Some(ms(from)), |at| next_fire(&schedule, *at));
        all.skip(1).take(count).map(shown).collect()
    }

    #[test]
    fn a_schedule_fires_at_its_local_time() {
        let found = fires("30 9 * * MON", Asia::Kolkata, "2026-01-01T00:00:00Z", 2);
        assert_eq!(found, ["01-05T04:00:00", "01-12T04:00:00"]);
    }

    #[test]
    fn seconds_are_optional_and_come_first() {
        assert_eq!(
            fires("*/30 * * * * *", Tz::UTC, "2026-01-01T00:00:10Z", 2),
            ["01-01T00:00:30", "01-01T00:01:00"]
        );
        assert_eq!(
            fires("@daily", Tz::UTC, "2026-01-01T00:00:10Z", 1),
            ["01-02T00:00:00"]
        );
        for wrong in ["", "99 * * * *", "* * * *", "0 0 3 * * * 2030", "every day"] {
            assert!(parse_cron(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fire_is_strictly_after_and_on_a_whole_second() {
        let schedule = schedule("* * * * * *", Tz::UTC);
        assert_eq!(next_fire(&schedule, 5_000), Some(6_000));
        assert_eq!(next_fire(&schedule, 5_500), Some(6_000));
        assert_eq!(next_fire(&schedule, 5_999), Some(6_000));
    }

    #[test]
    fn a_skipped_local_time_fires_once_right_after_the_gap() {
        let found = fires("30 2 * * *", Europe::Berlin, "2026-03-28T00:00:00Z", 3);
        assert_eq!(found, ["03-28T01:30:00", "03-29T01:00:00", "03-30T00:30:00"]);
        let found = fires("15,45 2,14 * * *", Europe::Berlin, "2026-03-28T14:00:00Z", 2);
        assert_eq!(found, ["03-29T01:00:00", "03-29T12:15:00"]);
    }

    #[test]
    fn a_time_right_after_the_gap_fires_once_even_when_another_was_skipped() {
        let found = fires("0 2,3 * * *", Europe::Berlin, "2026-03-28T12:00:00Z", 2);
        assert_eq!(found, ["03-29T01:00:00", "03-30T00:00:00"]);
    }

    #[test]
    fn a_midnight_that_daylight_saving_skips_fires_right_after_it() {
        let found = fires("0 0 * * *", America::Santiago, "2026-09-05T12:00:00Z", 2);
        assert_eq!(found, ["09-06T04:00:00", "09-07T03:00:00"]);
    }

    #[test]
    fn a_repeated_local_time_fires_once_the_first_time() {
        let found = fires("30 2 * * *", Europe::Berlin, "2026-10-24T12:00:00Z", 2);
        assert_eq!(found, ["10-25T00:30:00", "10-26T01:30:00"]);
        let found = fires("0,30 2 * * *", Europe::Berlin, "2026-10-24T12:00:00Z", 3);
        assert_eq!(found, ["10-25T00:00:00", "10-25T00:30:00", "10-26T01:00:00"]);
    }

    #[test]
    fn half_an_hour_of_daylight_saving_is_understood() {
        let found = fires("45 1 * * *", Australia::Lord_Howe, "2026-04-04T00:00:00Z", 2);
        assert_eq!(found, ["04-04T14:45:00", "04-05T15:15:00"]);
        let found = fires("15 2 * * *", Australia::Lord_Howe, "2026-10-03T00:00:00Z", 2);
        assert_eq!(found, ["10-03T15:30:00", "10-04T15:15:00"]);
    }

    #[test]
    fn a_schedule_of_every_hour_keeps_its_pace_when_the_clocks_change() {
        for from in ["2026-10-24T23:00:00Z", "2026-03-28T23:00:00Z"] {
            let found = fires("*/20 * * * *", Europe::Berlin, from, 12);
            let expected: Vec<_> = (1..=12)
                .map(|step| shown(ms(from) + step * 20 * 60_000))
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_date_that_never_comes_never_fires() {
        assert_eq!(
            next_fire(&schedule("0 0 31 2 *", Tz::UTC), ms("2026-01-01T00:00:00Z")),
            None
        );
    }

    #[test]
    fn the_latest_missed_fire_is_found_over_years_of_seconds() {
        let every_second = schedule("* * * * * *", Tz::UTC);
        let (from, now) = (ms("2016-01-01T00:00:00Z"), ms("2026-01-01T00:00:00Z") + 500);
        assert_eq!(latest_fire(&every_second, from, now), Some(now - 500));
        let daily = schedule("0 3 * * *", Tz::UTC);
        assert_eq!(
            latest_fire(&daily, from, now).map(shown).unwrap(),
            "12-31T03:00:00"
        );
        assert_eq!(latest_fire(&daily, now, now + 1000), None);
    }

    fn any_schedule() -> impl Strategy<Value = Schedule> {
        let cron = prop::sample::select(vec![
            "*/5 * * * *",
            "30 2 * * *",
            "0 */2 * * *",
            "15,45 1-3 * * *",
            "0 0 * * *",
            "59 23 * * SUN",
            "0 3 1 * *",
            "17 * * * * *",
        ]);
        let zone = prop::sample::select(vec![
            Tz::UTC,
            Europe::Berlin,
            America::New_York,
            America::Santiago,
            Australia::Lord_Howe,
            Asia::Kolkata,
        ]);
        (cron, zone).prop_map(|(cron, zone)| schedule(cron, zone))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_next_fire_never_goes_back(schedule in any_schedule(), from in 1_767_225_600_000_u64..1_830_297_600_000, step in 0_u64..200_000_000) {
            let (first, second) = (next_fire(&schedule, from).unwrap(), next_fire(&schedule, from + step).unwrap());
            prop_assert!(first > from && second > from + step);
            prop_assert!(first <= second);
            prop_assert!(first > from + step || second >= first);
            if first > from + step {
                prop_assert_eq!(first, second);
            }
        }

        #[test]
        fn the_latest_fire_is_the_one_before_the_next(schedule in any_schedule(), from in 1_767_225_600_000_u64..1_830_297_600_000, span in 0_u64..40_000_000_000) {
            let now = from + span;
            match latest_fire(&schedule, from, now) {
                Some(latest) => {
                    prop_assert!(latest > from && latest <= now);
                    prop_assert!(next_fire(&schedule, latest).unwrap() > now);
                }
                None => prop_assert!(next_fire(&schedule, from).unwrap() > now),
            }
        }
    }
}
