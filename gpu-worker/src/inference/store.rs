//! The loaded models: by name and version, bounded, the least recently used one gives way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tonic::Status;

use super::model::{Limits, Model};

/// The loaded models.
#[derive(Debug, Default)]
pub struct ModelStore {
    slots: RwLock<Vec<Slot>>,
    clock: AtomicU64,
    limits: Limits,
}

#[derive(Debug)]
struct Slot {
    model: Arc<Model>,
    used: AtomicU64,
}

impl ModelStore {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// How models are run.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// A loaded model; with an empty version the one loaded last of that name.
    pub fn get(&self, name: &str, version: &str) -> Result<Arc<Model>, Status> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let slot = slots
            .iter()
            .rev()
            .find(|slot| slot.is(name, version))
            .ok_or_else(|| Status::not_found(format!("model `{name}` version `{version}` is not loaded")))?;
        slot.used
            .store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Ok(slot.model.clone())
    }

    /// The loaded versions of a model.
    pub fn versions(&self, name: &str) -> Vec<String> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots
            .iter()
            .filter(|slot| slot.model.name == name)
            .map(|slot| slot.model.version.clone())
            .collect()
    }

    /// The names and versions of all.
    pub fn all(&self) -> Vec<(String, String)> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let models = slots.iter().map(|slot| &slot.model);
        models
            .map(|model| (model.name.clone(), model.version.clone()))
            .collect()
    }

    /// Adds a model in the place of one of the same name and version; requests under way end on the old one.
    pub fn insert(&self, model: Model) {
        let used = AtomicU64::new(self.clock.fetch_add(1, Ordering::Relaxed));
        let slot = Slot {
            model: Arc::new(model),
            used,
        };
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|old| !old.is(&slot.model.name, &slot.model.version));
        slots.push(slot);
        while slots.len() > self.limits.models.max(1) {
            let oldest = slots
                .iter()
                .enumerate()
                .min_by_key(|(_, slot)| slot.used.load(Ordering::Relaxed));
            let Some((at, _)) = oldest else { break };
            let gone = slots.remove(at);
            tracing::info!(
                model = gone.model.name,
                version = gone.model.version,
                "unloaded to make room"
            );
        }
    }

    /// Forgets a model's version, or all of them when `version` is empty.
    pub fn remove(&self, name: &str, version: &str) -> Result<(), Status> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let before = slots.len();
        slots.retain(|slot| !slot.is(name, version));
        if slots.len() == before {
            return Err(Status::not_found(format!(
                "model `{name}` version `{version}` is not loaded"
            )));
        }
        Ok(())
    }
}

impl Slot {
    fn is(&self, name: &str, version: &str) -> bool {
        self.model.name == name && (version.is_empty() || self.model.version == version)
    }
}
