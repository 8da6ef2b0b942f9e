//! The loaded models: by name and version, bounded in number and memory; the least recently used one gives way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tonic::Status;

use super::budget::{Budget, Share};
use super::model::{Limits, Model, Opened};
use super::queue::Batching;
use super::signature::Signature;

/// The loaded models.
#[derive(Debug)]
pub struct ModelStore {
    slots: RwLock<Vec<Slot>>,
    clock: AtomicU64,
    limits: Limits,
    budget: Budget,
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
            slots: RwLock::default(),
            clock: AtomicU64::new(0),
            budget: Budget::new(limits.memory),
            limits,
        }
    }

    /// How models are run.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Adds a model that is opened, with all its instances where it has a group of them; the bytes that it takes.
    pub async fn add(
        &self,
        opened: Opened,
        instances: Option<usize>,
        batching: Option<Batching>,
    ) -> Result<u64, String> {
        let Some(count) = instances else {
            let share = self.room(opened.takes).await?;
            return Ok(self.insert(Model::new(opened, share, &self.limits, batching)));
        };
        let room = self.room(opened.takes.saturating_mul(count as u64)).await;
        let share = room.map_err(|reason| format!("with {count} instances {reason}"))?;
        let opened = tokio::task::spawn_blocking(move || opened.with_instances(count))
            .await
            .unwrap_or_else(|e| Err(format!("could not be loaded: {e}")))?;
        Ok(self.insert(Model::new(opened, share, &self.limits, batching)))
    }

    /// Room for a model that takes so many bytes; the least recently used ones give way. Those that still answer are waited
    /// for.
    pub async fn room(&self, bytes: u64) -> Result<Share, String> {
        let most = self.budget.most();
        let too_much = || format!("takes {bytes} bytes of memory, allowed are {most} for all models");
        if bytes > most {
            return Err(too_much());
        }
        let mut coming = self.budget.left();
        while coming < bytes {
            let Some(gone) = self.remove_oldest() else { break };
            coming += gone.bytes();
        }
        self.budget.take(bytes).await.ok_or_else(too_much)
    }

    fn remove_oldest(&self) -> Option<Arc<Model>> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let used = |slot: &Slot| slot.used.load(Ordering::Relaxed);
        let (at, _) = slots.iter().enumerate().min_by_key(|(_, slot)| used(slot))?;
        let gone = slots.remove(at).model;
        let Signature { name, version, .. } = gone.signature();
        tracing::info!(model = name, version, "unloaded to make room");
        Some(gone)
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
        let all = self.all();
        let versions = all.iter().map(|model| model.signature());
        versions
            .filter(|signature| signature.name == name)
            .map(|signature| signature.version.clone())
            .collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Model>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().map(|slot| slot.model.clone()).collect()
    }

    /// Adds a model in the place of one of the same name and version; requests under way end on the old one. Its bytes.
    fn insert(&self, model: Model) -> u64 {
        let bytes = model.bytes();
        let used = AtomicU64::new(self.clock.fetch_add(1, Ordering::Relaxed));
        let slot = Slot {
            model: Arc::new(model),
            used,
        };
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let Signature { name, version, .. } = slot.model.signature();
        slots.retain(|old| !old.is(name, version));
        slots.push(slot);
        let beyond = slots.len() > self.limits.models.max(1);
        drop(slots);
        if beyond {
            self.remove_oldest();
        }
        bytes
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
        let signature = self.model.signature();
        signature.name == name && (version.is_empty() || signature.version == version)
    }
}
