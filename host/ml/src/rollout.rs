//! Rollouts: how a version takes the champion's requests over in stages, and when it has to give them back.

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
        if self.min_time_ms > month {
            mistakes.push(format!(
                "`min_time_ms` is {}, allowed are 0 to {month}",
                self.min_time_ms
            ));
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
    /// The version in production.
    pub champion: Arm,
    /// The version that may take its place.
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
    /// Judges a stage that began some time ago. Errors count at once: when there are more than so many requests as a stage
    /// needs may have, it need not be waited for the rest of them.
    pub fn judge(&self, policy: &Policy, elapsed_ms: u64) -> Verdict {
        let requests = self.requests.max(policy.min_requests) as f64;
        let errors = (self.error_rate * self.requests as f64).round();
        if errors > (self.champion_error_rate + policy.max_error_rate) * requests {
            return Verdict::Degraded(format!(
                "{errors} of its {} requests failed, which is more than {} of {requests} beyond the champion's {:.4}",
                self.requests, policy.max_error_rate, self.champion_error_rate
            ));
        }
        if self.requests.min(self.champion_requests) < policy.min_requests {
            return Verdict::Wait;
        }
        if let (Some(own), Some(champions)) = (self.p99_ms, self.champion_p99_ms)
            && own > champions * policy.max_latency_ratio
        {
            return Verdict::Degraded(format!(
                "its 99th percentile of latency is {own:.2} ms, which is more than {} times the champion's {champions:.2} ms",
                policy.max_latency_ratio
            ));
        }
        match self.drift {
            Some(drift) if drift > policy.max_drift => Verdict::Degraded(format!(
                "its scores drift from the champion's by {drift:.3}, allowed are {}",
                policy.max_drift
            )),
            _ if elapsed_ms < policy.min_time_ms => Verdict::Wait,
            _ => Verdict::Advance,
        }
    }
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The candidate has a share of the requests.
    Running,
    /// It is the champion.
    RolledOut,
    /// It degraded, or was stopped; the champion has all requests.
    RolledBack,
    /// Somebody moved the alias meanwhile.
    Superseded,
}

/// A rollout of one version of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The model.
    pub model: String,
    /// The version that may become the champion.
    pub version: u64,
    /// The version that is it.
    pub champion: u64,
    /// What it has to show.
    pub policy: Policy,
    /// Which of the policy's stages it is in, from 0.
    pub stage: usize,
    /// When that began, in milliseconds since the Unix epoch.
    pub since: u64,
    /// When the first began.
    pub started: u64,
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
            state: State::Running,
            reason: None,
            measured: None,
        }
    }

    /// The candidate's share of the requests in hundredths.
    pub fn share(&self) -> u64 {
        self.policy.stages.get(self.stage).copied().unwrap_or(100)
    }

    /// What tells its stage from every other of the model's rollouts.
    pub fn turn(&self) -> (u64, usize) {
        (self.started, self.stage)
    }

    /// The next stage; with the last it has ended.
    pub fn advance(mut self, now: u64) -> Self {
        self.stage += 1;
        self.since = now;
        if self.share() == 100 {
            self.end(State::RolledOut, "every stage was passed")
        } else {
            self
        }
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

    fn judged(candidate: Arm, elapsed_ms: u64) -> Verdict {
        let policy = Policy {
            min_requests: 100,
            min_time_ms: 1000,
            ..Policy::default()
        };
        let tally = Tally {
            champion: arm(1000, 10, 0.002, 1.0),
            candidate,
        };
        tally.measured().judge(&policy, elapsed_ms)
    }

    #[test]
    fn a_candidate_like_the_champion_advances_after_enough_requests_and_time() {
        assert_eq!(judged(arm(99, 0, 0.002, 1.0), 5000), Verdict::Wait);
        assert_eq!(judged(arm(200, 2, 0.003, 1.0), 999), Verdict::Wait);
        assert_eq!(judged(arm(200, 2, 0.003, 1.0), 1000), Verdict::Advance);
    }

    #[test]
    fn one_that_errs_is_slow_or_drifts_is_refused_with_the_figures() {
        let reason = |candidate: Arm| match judged(candidate, 0) {
            Verdict::Degraded(reason) => reason,
            other => panic!("{other:?}"),
        };
        // Long before it had as many requests as it needs.
        assert!(reason(arm(5, 3, 0.002, 1.0)).starts_with("3 of its 5 requests failed"));
        assert!(reason(arm(200, 0, 0.006, 1.0)).contains("times the champion's"));
        assert!(reason(arm(200, 0, 0.002, 5.0)).contains("scores drift from the champion's"));
        assert_eq!(judged(arm(5, 2, 0.002, 1.0), 0), Verdict::Wait);
    }

    #[test]
    fn every_mistake_of_a_policy_is_told_at_once() {
        assert_eq!(Policy::default().mistakes(), Vec::<String>::new());
        let wrong = Policy {
            stages: vec![50, 5, 100],
            min_requests: 0,
            min_time_ms: u64::MAX,
            max_error_rate: -1.0,
            max_latency_ratio: 0.5,
            max_drift: f64::NAN,
        };
        assert_eq!(wrong.mistakes().len(), 6, "{:?}", wrong.mistakes());
        for stages in [vec![], vec![100], vec![0, 100], vec![5, 50]] {
            let policy = Policy {
                stages,
                ..Policy::default()
            };
            assert_eq!(policy.mistakes().len(), 1, "{policy:?}");
        }
    }

    #[test]
    fn the_last_stage_is_the_end() {
        let rollout = Rollout::begin("ranker", 4, 3, Policy::default(), 1);
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
