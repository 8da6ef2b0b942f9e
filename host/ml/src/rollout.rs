//! Rollouts: how a version takes the champion's requests over in stages, and when it has to give them back, which it may for
//! some time after the last stage as well.

use serde::{Deserialize, Serialize};

use crate::sketch::Sketch;

/// Stages at most.
const MOST_STAGES: usize = 10;
/// The part of the answers whose latency is compared.
const SLOWEST: f64 = 0.99;

/// What a candidate has to show in each stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The candidate's share of the requests in hundredths, stage by stage; with the last, 100, it is the champion.
    pub stages: Vec<u64>,
    /// Requests that either version has to have had in a stage.
    pub min_requests: u64,
    /// How long a stage takes at least, in milliseconds.
    pub min_time_ms: u64,
    /// How long it is watched once it is the champion, in milliseconds; with 0 it is not.
    pub watch_ms: u64,
    /// By how much the part of requests that fail may be larger than the champion's.
    pub max_error_rate: f64,
    /// How many times as long as the champion's the 99th percentile of latency may be.
    pub max_latency_ratio: f64,
    /// The population stability index that the scores may have, where the champion's are expected.
    pub max_drift: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            stages: vec![5, 50, 100],
            min_requests: 500,
            min_time_ms: 10 * 60 * 1000,
            watch_ms: 60 * 60 * 1000,
            max_error_rate: 0.01,
            max_latency_ratio: 2.0,
            max_drift: 0.25,
        }
    }
}

impl Policy {
    /// All that is wrong with it.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let rising = self.stages.is_sorted_by(|before, after| before < after);
        let whole = self.stages.last() == Some(&100) && self.stages.first() != Some(&0);
        if !(2..=MOST_STAGES).contains(&self.stages.len()) || !rising || !whole {
            mistakes.push(format!(
                "`stages` is {:?}, expected 2 to {MOST_STAGES} rising shares from 1, the last of them 100",
                self.stages
            ));
        }
        if !(1..=1_000_000).contains(&self.min_requests) {
            mistakes.push(format!(
                "`min_requests` is {}, allowed are 1 to 1000000",
                self.min_requests
            ));
        }
        let month = 30 * 24 * 60 * 60 * 1000;
        for (name, found) in [("min_time_ms", self.min_time_ms), ("watch_ms", self.watch_ms)] {
            if found > month {
                mistakes.push(format!("`{name}` is {found}, allowed are 0 to {month}"));
            }
        }
        for (name, found, least) in [
            ("max_error_rate", self.max_error_rate, 0.0),
            ("max_latency_ratio", self.max_latency_ratio, 1.0),
            ("max_drift", self.max_drift, 0.0),
        ] {
            if !found.is_finite() || found < least {
                mistakes.push(format!("`{name}` is {found}, allowed are numbers from {least}"));
            }
        }
        mistakes
    }
}

/// What became of the requests that one version was asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// All of them.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// How long those took that were answered.
    pub seconds: Sketch,
    /// What was answered.
    pub scores: Sketch,
}

impl Arm {
    /// Counts a request that was answered.
    pub fn answered(&mut self, seconds: f32, scores: &[f32]) {
        self.requests += 1;
        self.seconds.add(seconds);
        scores.iter().for_each(|score| self.scores.add(*score));
    }

    /// Counts a request that failed.
    pub fn failed(&mut self) {
        self.requests += 1;
        self.errors += 1;
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.seconds.merge(&other.seconds);
        self.scores.merge(&other.scores);
    }

    fn error_rate(&self) -> f64 {
        self.errors as f64 / self.requests.max(1) as f64
    }
}

/// Both sides of a rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// The version in production; once another is, what it had shown last.
    pub champion: Arm,
    /// The version that may take its place, or has taken it.
    pub candidate: Arm,
}

impl Tally {
    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.champion.merge(&other.champion);
        self.candidate.merge(&other.candidate);
    }

    /// The figures that are compared.
    pub fn measured(&self) -> Measured {
        let (champion, candidate) = (&self.champion, &self.candidate);
        let slowest = |arm: &Arm| {
            arm.seconds
                .quantile(SLOWEST)
                .map(|seconds| f64::from(seconds) * 1000.0)
        };
        Measured {
            requests: candidate.requests,
            champion_requests: champion.requests,
            error_rate: candidate.error_rate(),
            champion_error_rate: champion.error_rate(),
            p99_ms: slowest(candidate),
            champion_p99_ms: slowest(champion),
            drift: champion.scores.drift(&candidate.scores),
        }
    }
}

/// The figures of a stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Requests that the candidate had.
    pub requests: u64,
    /// Requests that the champion had.
    pub champion_requests: u64,
    /// The part of the candidate's that failed.
    pub error_rate: f64,
    /// The part of the champion's that failed.
    pub champion_error_rate: f64,
    /// The 99th percentile of the candidate's latency.
    pub p99_ms: Option<f64>,
    /// The 99th percentile of the champion's.
    pub champion_p99_ms: Option<f64>,
    /// The population stability index of the candidate's scores.
    pub drift: Option<f64>,
}

/// What is to become of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is more to be seen.
    Wait,
    /// The candidate has shown what it had to.
    Advance,
    /// The candidate is worse than it may be.
    Degraded(String),
}

impl Measured {
    /// Why the candidate has to give its requests back. Errors count at once: when there are more than so many requests as a
    /// stage needs may have, it need not be waited for the rest of them.
    fn degraded(&self, policy: &Policy) -> Option<String> {
        let requests = self.requests.max(policy.min_requests) as f64;
        let errors = (self.error_rate * self.requests as f64).round();
        if errors > (self.champion_error_rate + policy.max_error_rate) * requests {
            return Some(format!(
                "{errors} of its {} requests failed, which is more than {} of {requests} beyond the champion's {:.4}",
                self.requests, policy.max_error_rate, self.champion_error_rate
            ));
        }
        if !self.suffices(policy) {
            return None;
        }
        if let (Some(own), Some(champions)) = (self.p99_ms, self.champion_p99_ms)
            && own > champions * policy.max_latency_ratio
        {
            return Some(format!(
                "its 99th percentile of latency is {own:.2} ms, which is more than {} times the champion's {champions:.2} ms",
                policy.max_latency_ratio
            ));
        }
        let drift = self.drift.filter(|drift| *drift > policy.max_drift)?;
        Some(format!(
            "its scores drift from the champion's by {drift:.3}, allowed are {}",
            policy.max_drift
        ))
    }

    /// Whether either version had as many requests as a stage needs.
    fn suffices(&self, policy: &Policy) -> bool {
        self.requests.min(self.champion_requests) >= policy.min_requests
    }
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The candidate has a share of the requests.
    Running,
    /// It is the champion, and compared with what the one before it had shown.
    Watched,
    /// It is the champion for good.
    RolledOut,
    /// It degraded, or was stopped; the champion before it has all requests.
    RolledBack,
    /// Somebody moved the alias meanwhile.
    Superseded,
}

impl State {
    /// Whether the candidate is still judged.
    pub fn goes_on(self) -> bool {
        matches!(self, Self::Running | Self::Watched)
    }
}

/// A rollout of one version of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The model.
    pub model: String,
    /// The version that may become the champion.
    pub version: u64,
    /// The version that was it when the rollout began.
    pub champion: u64,
    /// What it has to show.
    pub policy: Policy,
    /// Which of the policy's stages it is in, from 0.
    pub stage: usize,
    /// When that began, or the latest part of its watch, in milliseconds since the Unix epoch.
    pub since: u64,
    /// When the first began.
    pub started: u64,
    /// When the version became the champion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<u64>,
    /// Where it stands.
    pub state: State,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The figures of its latest stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

impl Rollout {
    /// A rollout in its first stage.
    pub fn begin(model: &str, version: u64, champion: u64, policy: Policy, now: u64) -> Self {
        Self {
            model: model.to_owned(),
            version,
            champion,
            policy,
            stage: 0,
            since: now,
            started: now,
            promoted: None,
            state: State::Running,
            reason: None,
            measured: None,
        }
    }

    /// The candidate's share of the requests in hundredths.
    pub fn share(&self) -> u64 {
        self.policy.stages.get(self.stage).copied().unwrap_or(100)
    }

    /// What tells its stage, or part of its watch, from every other of the model's rollouts.
    pub fn turn(&self) -> (u64, u64) {
        (self.started, self.since)
    }

    /// Judges its stage, or the part of its watch, by the figures of that.
    pub fn judge(&self, measured: &Measured, now: u64) -> Verdict {
        if let Some(reason) = measured.degraded(&self.policy) {
            return Verdict::Degraded(reason);
        }
        let in_time = now.saturating_sub(self.since) >= self.policy.min_time_ms;
        match (in_time && measured.suffices(&self.policy)) || self.was_watched(now) {
            true => Verdict::Advance,
            false => Verdict::Wait,
        }
    }

    /// What comes next: a stage, and after the last its watch, part by part, so that what was good for long does not outweigh
    /// what is bad now.
    pub fn advance(mut self, now: u64) -> Self {
        self.since = now;
        if self.state == State::Running {
            self.stage += 1;
        }
        if self.share() == 100 {
            self.state = State::Watched;
            self.promoted = self.promoted.or(Some(now));
        }
        match self.was_watched(now) {
            true => self.end(State::RolledOut, "every stage was passed"),
            false => self,
        }
    }

    /// Whether it has been the champion for as long as it is watched.
    fn was_watched(&self, now: u64) -> bool {
        let passed = |promoted| now.saturating_sub(promoted) >= self.policy.watch_ms;
        self.promoted.is_some_and(passed)
    }

    /// Whether this is the moment at which its version became the champion, to be watched from then on.
    pub fn is_new_champion(&self) -> bool {
        self.state == State::Watched && self.promoted == Some(self.since)
    }

    /// Its end.
    pub fn end(mut self, state: State, reason: &str) -> Self {
        self.state = state;
        self.reason = Some(reason.to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(requests: u16, errors: u16, seconds: f32, power: f32) -> Arm {
        let mut arm = Arm::default();
        (0..errors).for_each(|_| arm.failed());
        for nth in errors..requests {
            let even = (f32::from(nth) + 0.5) / f32::from(requests);
            arm.answered(seconds, &[even.powf(power)]);
        }
        arm
    }

    /// A rollout that began at 0.
    fn begun() -> Rollout {
        let policy = Policy {
            min_requests: 100,
            min_time_ms: 1000,
            ..Policy::default()
        };
        Rollout::begin("ranker", 4, 3, policy, 0)
    }

    fn judged(rollout: &Rollout, candidate: Arm, now: u64) -> Verdict {
        let tally = Tally {
            champion: arm(1000, 10, 0.002, 1.0),
            candidate,
        };
        rollout.judge(&tally.measured(), now)
    }

    #[test]
    fn a_candidate_like_the_champion_advances_after_enough_requests_and_time() {
        let judged = |candidate, now| judged(&begun(), candidate, now);
        assert_eq!(judged(arm(99, 0, 0.002, 1.0), 5000), Verdict::Wait);
        assert_eq!(judged(arm(200, 2, 0.003, 1.0), 999), Verdict::Wait);
        assert_eq!(judged(arm(200, 2, 0.003, 1.0), 1000), Verdict::Advance);
    }

    #[test]
    fn one_that_errs_is_slow_or_drifts_is_refused_with_the_figures() {
        for rollout in [begun(), watched()] {
            let reason = |candidate: Arm| match judged(&rollout, candidate, 0) {
                Verdict::Degraded(reason) => reason,
                other => panic!("{other:?}"),
            };
            // Long before it had as many requests as it needs.
            assert!(reason(arm(5, 3, 0.002, 1.0)).starts_with("3 of its 5 requests failed"));
            assert!(reason(arm(200, 0, 0.006, 1.0)).contains("times the champion's"));
            assert!(reason(arm(200, 0, 0.002, 5.0)).contains("scores drift from the champion's"));
            assert_eq!(judged(&rollout, arm(5, 2, 0.002, 1.0), 0), Verdict::Wait);
        }
    }

    /// A rollout whose version is the champion since 2, and watched for an hour.
    fn watched() -> Rollout {
        begun().advance(1).advance(2)
    }

    #[test]
    fn a_new_champion_is_watched_in_parts_until_its_time_has_passed() {
        let first = watched();
        assert_eq!((first.share(), first.state), (100, State::Watched));
        assert_eq!(judged(&first, arm(200, 2, 0.002, 1.0), 1002), Verdict::Advance);
        let second = first.clone().advance(1002);
        assert!(first.is_new_champion() && !second.is_new_champion());
        assert_eq!((second.state, second.promoted), (State::Watched, Some(2)));
        assert_ne!(second.turn(), first.turn());
        let end = 2 + second.policy.watch_ms;
        assert_eq!(judged(&second, arm(5, 0, 0.002, 1.0), end - 1), Verdict::Wait);
        assert_eq!(judged(&second, arm(5, 0, 0.002, 1.0), end), Verdict::Advance);
        let ended = second.advance(end);
        assert_eq!((ended.state, ended.promoted), (State::RolledOut, Some(2)));
    }

    #[test]
    fn every_mistake_of_a_policy_is_told_at_once() {
        assert_eq!(Policy::default().mistakes(), Vec::<String>::new());
        let wrong = Policy {
            stages: vec![50, 5, 100],
            min_requests: 0,
            min_time_ms: u64::MAX,
            watch_ms: u64::MAX,
            max_error_rate: -1.0,
            max_latency_ratio: 0.5,
            max_drift: f64::NAN,
        };
        assert_eq!(wrong.mistakes().len(), 7, "{:?}", wrong.mistakes());
        for stages in [vec![], vec![100], vec![0, 100], vec![5, 50]] {
            let policy = Policy {
                stages,
                ..Policy::default()
            };
            assert_eq!(policy.mistakes().len(), 1, "{policy:?}");
        }
    }

    #[test]
    fn the_last_stage_is_the_end_of_a_rollout_that_is_not_watched() {
        let policy = Policy {
            watch_ms: 0,
            ..Policy::default()
        };
        let rollout = Rollout::begin("ranker", 4, 3, policy, 1);
        assert_eq!(rollout.share(), 5);
        let rollout = rollout.advance(2);
        assert_eq!(
            (rollout.share(), rollout.since, rollout.state),
            (50, 2, State::Running)
        );
        let rollout = rollout.advance(3);
        assert_eq!((rollout.share(), rollout.state), (100, State::RolledOut));
    }
}
