//! Steps that run at this moment. They are kept in memory only: a commit for each start would cost more than
//! most steps do, and after a restart a step waits again until it is claimed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Records, StepRecord, StepState};

/// Attempts by event and function (or `job:KIND`).
#[derive(Default)]
pub(super) struct Steps(Mutex<HashMap<(String, String), Attempt>>);

#[derive(Clone, Copy, PartialEq, Eq)]
struct Attempt {
    number: u32,
    since: u64,
}

impl Steps {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows those among `steps` that run as running.
    pub(super) fn show(&self, steps: &mut [StepRecord]) {
        let running = self.lock();
        if running.is_empty() {
            return;
        }
        for step in steps {
            let attempt = running.get(&(step.event.clone(), step.function.clone()));
            if let Some(attempt) = attempt.filter(|attempt| attempt.follows(step)) {
                step.state = StepState::Running;
                step.attempt = attempt.number;
                step.started = Some(attempt.since);
                step.finished = None;
                step.duration_ms = None;
            }
        }
    }
}

impl Attempt {
    /// Whether the record does not know yet how this attempt ended.
    fn follows(self, step: &StepRecord) -> bool {
        match step.state {
            StepState::Queued | StepState::Joining => true,
            StepState::Retry => self.number > step.attempt,
            StepState::Running
            | StepState::Done
            | StepState::Dead
            | StepState::Paused
            | StepState::Dropped => false,
        }
    }
}

/// A step that runs until this is dropped.
pub struct Running {
    steps: Arc<Steps>,
    key: (String, String),
    attempt: Attempt,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut steps = self.steps.lock();
        // A later attempt may have begun already.
        if steps.get(&self.key) == Some(&self.attempt) {
            steps.remove(&self.key);
        }
    }
}

impl Records {
    /// Shows a step as running, until the answer is dropped.
    pub fn runs_now(&self, event: &str, function: &str, number: u32, since: u64) -> Running {
        let key = (event.to_owned(), function.to_owned());
        let attempt = Attempt { number, since };
        self.running.lock().insert(key.clone(), attempt);
        Running {
            steps: self.running.clone(),
            key,
            attempt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::KeptRequests;
    use crate::store::memory::Memory;

    fn step(state: StepState, attempt: u32) -> StepRecord {
        serde_json::from_value(serde_json::json!({
            "event": "e", "parent": null, "type": "T", "subject": null, "function": "f", "state": state,
            "attempt": attempt, "queued": 1, "started": null, "finished": 5, "duration_ms": 4.0, "reason": null,
            "emitted": [],
        }))
        .unwrap()
    }

    fn shown(records: &Records, state: StepState, attempt: u32) -> (StepState, u32) {
        let mut steps = [step(state, attempt)];
        records.running.show(&mut steps);
        (steps[0].state, steps[0].attempt)
    }

    #[test]
    fn a_step_is_shown_as_running_until_its_attempt_is_recorded() {
        let records = Records::new(Arc::new(Memory::default()), KeptRequests::default());
        let first = records.runs_now("e", "f", 1, 3);
        assert_eq!(shown(&records, StepState::Queued, 1), (StepState::Running, 1));
        assert_eq!(shown(&records, StepState::Retry, 1), (StepState::Retry, 1));
        assert_eq!(shown(&records, StepState::Done, 1), (StepState::Done, 1));
        let second = records.runs_now("e", "f", 2, 9);
        drop(first);
        assert_eq!(shown(&records, StepState::Retry, 1), (StepState::Running, 2));
        drop(second);
        assert_eq!(shown(&records, StepState::Retry, 1), (StepState::Retry, 1));
    }
}
