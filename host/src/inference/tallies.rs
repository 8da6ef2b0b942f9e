//! What this host has counted of versions that are compared: those that have the champion's requests in a rollout.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_ml::rollout::{Arm, Rollout, Tally};

use super::Failure;
use super::open_inference::ModelInferResponse;
use super::resolve::Resolved;
use super::scores::scores;

/// Models whose requests are counted at one time.
const MOST: usize = 64;

/// What was counted, by model.
#[derive(Default)]
pub struct Tallies(Mutex<HashMap<String, Counted>>);

/// Of one model.
#[derive(Default)]
struct Counted {
    /// The stage of a rollout that it belongs to.
    turn: Option<(u64, u64)>,
    versions: BTreeMap<String, Arm>,
}

impl Tallies {
    fn counted(&self) -> MutexGuard<'_, HashMap<String, Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request of a version.
    pub(super) fn count(&self, version: &Resolved, asked: &Result<(ModelInferResponse, Duration), Failure>) {
        let mut counted = self.counted();
        if counted.len() >= MOST && !counted.contains_key(&version.name) {
            return;
        }
        let versions = &mut counted.entry(version.name.clone()).or_default().versions;
        let arm = versions.entry(version.version.clone()).or_default();
        match asked {
            Ok((answer, took)) => arm.answered(took.as_secs_f32(), &scores(answer)),
            Err(_) => arm.failed(),
        }
    }

    /// The models of which something was counted.
    pub fn models(&self) -> Vec<String> {
        self.counted().keys().cloned().collect()
    }

    /// Forgets what was counted of a model.
    pub fn forget(&self, model: &str) {
        self.counted().remove(model);
    }

    /// What was counted in the stage that a rollout is in; what was before that is forgotten.
    pub fn of(&self, rollout: &Rollout) -> Tally {
        let mut counted = self.counted();
        let Some(of_model) = counted.get_mut(&rollout.model) else {
            return Tally::default();
        };
        if of_model.turn != Some(rollout.turn()) {
            of_model.turn = Some(rollout.turn());
            of_model.versions.clear();
        }
        let arm = |version: u64| {
            of_model
                .versions
                .get(&version.to_string())
                .cloned()
                .unwrap_or_default()
        };
        Tally {
            champion: arm(rollout.champion),
            candidate: arm(rollout.version),
        }
    }
}
