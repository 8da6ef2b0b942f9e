//! Instances of one component: fresh for each invocation or, where a function chose that, kept for the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use super::{Call, Guest, Sandbox};
use crate::manifest::Reuse;
use crate::services::Services;

/// A guest's store and the instance in it, of one invocation after another.
pub(super) struct Live<I> {
    pub(super) store: Store<Guest>,
    /// None before the first invocation made it.
    pub(super) instance: Option<I>,
    /// Invocations that it has served.
    served: u32,
}

impl<I> Live<I> {
    /// Whether it served another invocation before.
    pub(super) fn is_warm(&self) -> bool {
        self.served > 0
    }
}

/// The instances that wait for their next invocation.
pub(super) struct Instances<I> {
    parked: Arc<Parked<I>>,
}

type Parked<I> = Mutex<Vec<Waiting<I>>>;

struct Waiting<I> {
    live: Live<I>,
    /// When it began to wait, in milliseconds since the epoch.
    since: u64,
    /// Its share of the instances that may wait on this host.
    _place: OwnedSemaphorePermit,
}

impl<I> Default for Instances<I> {
    fn default() -> Self {
        Self {
            parked: Arc::default(),
        }
    }
}

impl<I: Send + 'static> Instances<I> {
    /// A store for a call: that of an instance which waits, or else a fresh one.
    pub(super) fn take(&self, sandbox: &Sandbox, call: &Arc<Call>) -> Live<I> {
        let waiting = call.spec.reuse.as_ref().and_then(|_| lock(&self.parked).pop());
        match waiting {
            Some(Waiting { mut live, .. }) => {
                live.store.data_mut().begin(call.clone());
                live
            }
            None => Live {
                store: Guest::store(sandbox, call.clone()),
                instance: None,
                served: 0,
            },
        }
    }

    /// Keeps an instance whose invocation ended well, if its function reuses instances and there is room.
    pub(super) fn park(&self, sandbox: &Sandbox, call: &Call, mut live: Live<I>) {
        live.served += 1;
        let Some(reuse) = call.spec.reuse.filter(|reuse| live.served < reuse.invocations) else {
            return;
        };
        let Some(place) = sandbox.place_to_wait() else {
            return;
        };
        let since = call.services.clock.now_ms();
        let mut parked = lock(&self.parked);
        let alone = parked.is_empty();
        parked.push(Waiting {
            live,
            since,
            _place: place,
        });
        drop(parked);
        if alone {
            let (parked, services) = (Arc::downgrade(&self.parked), call.services.clone());
            call.services.spawn(sweep(parked, services, reuse));
        }
    }
}

/// Ends the instances that have waited too long, until none waits.
async fn sweep<I>(parked: Weak<Parked<I>>, services: Arc<Services>, reuse: Reuse) {
    let mut pause = reuse.idle;
    loop {
        let slept = services.stopping.run_until_cancelled(services.clock.sleep(pause));
        let (Some(()), Some(parked)) = (slept.await, parked.upgrade()) else {
            return;
        };
        let mut parked = lock(&parked);
        let old = services.clock.now_ms().saturating_sub(milliseconds(reuse.idle));
        parked.retain(|waiting| waiting.since > old);
        // The one that has waited longest is the first.
        let Some(first) = parked.first() else { return };
        pause = Duration::from_millis((first.since - old).max(1));
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn lock<I>(parked: &Parked<I>) -> MutexGuard<'_, Vec<Waiting<I>>> {
    parked.lock().unwrap_or_else(PoisonError::into_inner)
}
