//! When to report and to checkpoint.

use std::time::{Duration, Instant};

use crate::jobs::session::JobError;

/// Progress is shown this often.
const REPORT_EVERY: Duration = Duration::from_millis(300);
/// A checkpoint taken by time may cost this part of it: the next one waits 20 times as long as the last took.
const CHECKPOINT_SHARE: u32 = 20;

/// When to checkpoint inside an epoch; at the end of each epoch there always is one.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Every so many steps.
    Steps(usize),
    /// After so long, and longer where writing is slow.
    Time(Duration),
}

/// When to report and to checkpoint, and how long training took.
pub(super) struct Timer {
    pace: Pace,
    before: f64,
    started: Instant,
    reported: Instant,
    saved: Instant,
    wait: Duration,
    steps: usize,
}

impl Timer {
    pub(super) fn start(pace: Pace, before: f64) -> Self {
        let now = Instant::now();
        let wait = if let Pace::Time(wait) = pace {
            wait
        } else {
            Duration::ZERO
        };
        Self {
            pace,
            before,
            started: now,
            reported: now,
            saved: now,
            wait,
            steps: 0,
        }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    pub(super) fn report_due(&mut self) -> bool {
        let due = self.reported.elapsed() >= REPORT_EVERY;
        if due {
            self.reported = Instant::now();
        }
        due
    }

    pub(super) fn checkpoint_due(&mut self) -> bool {
        self.steps += 1;
        match self.pace {
            Pace::Steps(steps) => self.steps.is_multiple_of(steps.max(1)),
            Pace::Time(_) => self.saved.elapsed() >= self.wait,
        }
    }

    pub(super) fn checkpointed(
        &mut self,
        save: impl FnOnce() -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let begun = Instant::now();
        save()?;
        self.saved = Instant::now();
        if let Pace::Time(wait) = self.pace {
            self.wait = wait.max(begun.elapsed() * CHECKPOINT_SHARE);
        }
        Ok(())
    }
}
