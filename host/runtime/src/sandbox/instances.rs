//! Instances of one component: fresh for each invocation or, where a function chose that, kept for the next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime::component::Accessor;

use super::invoke::{Outcome, Usage, failure_of, milliseconds};
use super::{Call, Failure, Guest, Sandbox};
use crate::foreground;
use crate::manifest::Reuse;
use crate::services::Services;

/// An instance with as much memory is taken apart in the background: its pages are given back one by one, which holds
/// a thread for milliseconds.
const LARGE: u64 = 16 << 20;

/// A component that computed for as long is expected to do so again, and begins in the background.
const LONG: Duration = Duration::from_millis(10);

/// What a component exports to be called by.
pub(super) trait Entry: Sync {
    /// An instance of the component.
    type Instance: Send + Sync + 'static;
    /// What a call hands an instance beside itself.
    type Asked: Send;

    /// Makes an instance.
    fn instantiate(
        &self,
        store: &mut Store<Guest>,
    ) -> impl Future<Output = wasmtime::Result<Self::Instance>> + Send;

    /// Calls an instance.
    fn call(
        instance: &Self::Instance,
        accessor: &Accessor<Guest>,
        call: &Call,
        asked: Self::Asked,
    ) -> impl Future<Output = wasmtime::Result<Returned>> + Send;
}

/// What came of a call that neither trapped nor hit a limit.
pub(super) struct Returned {
    /// What the guest says.
    pub(super) said: Result<(), Failure>,
    /// Whether no task of the guest goes on: one that did would act in the next invocation.
    pub(super) alone: bool,
}

/// A guest's store and the instance in it, of one invocation after another.
struct Live<I> {
    store: Store<Guest>,
    /// None before the first invocation made it.
    instance: Option<I>,
    /// Invocations that it has served.
    served: u32,
}

/// A component's entry, and those of its instances that wait for their next invocation.
pub(super) struct Instances<E: Entry> {
    entry: E,
    parked: Arc<Parked<E::Instance>>,
    /// Whether the last invocation computed for long.
    was_long: AtomicBool,
}

type Parked<I> = Mutex<Vec<Waiting<I>>>;

struct Waiting<I> {
    live: Live<I>,
    /// When it began to wait, in milliseconds since the epoch.
    since: u64,
    /// Its share of the instances that may wait on this host.
    _place: OwnedSemaphorePermit,
}

impl<E: Entry> Instances<E> {
    /// Instances that are called by `entry`.
    pub(super) fn of(entry: E) -> Self {
        Self {
            entry,
            parked: Arc::default(),
            was_long: AtomicBool::new(false),
        }
    }

    /// How they are called.
    pub(super) fn entry(&self) -> &E {
        &self.entry
    }

    /// Runs one invocation.
    pub(super) async fn run(&self, sandbox: &Sandbox, call: &Arc<Call>, asked: E::Asked) -> Outcome {
        if self.was_long.load(Ordering::Relaxed) {
            foreground::step_back().await;
        }
        let started = Instant::now();
        let limit = call.spec.limits.wall_time;
        let mut live = self.take(sandbox, call);
        let (warm, meter) = (live.served > 0, live.store.data().meter());
        let mut start = Duration::ZERO;
        let running = async {
            let instance = match live.instance.take() {
                Some(instance) => instance,
                None => self.entry.instantiate(&mut live.store).await?,
            };
            start = started.elapsed();
            let instance = live.instance.insert(instance);
            live.store
                .run_concurrent(async |accessor| E::call(instance, accessor, call, asked).await)
                .await?
        };
        let ended = tokio::time::timeout(limit, meter.measure(running)).await;
        self.was_long.store(meter.spent() >= LONG, Ordering::Relaxed);
        let guest = live.store.data();
        guest.keep_output();
        let usage = Usage {
            warm,
            start_ms: milliseconds(start),
            cpu_ms: milliseconds(meter.spent()),
            peak_memory: guest.peak_memory(),
            host_calls: call.host_calls(),
        };
        let Returned { said, alone } = match ended {
            Err(_elapsed) => Returned::cut(Failure::Limit(format!("limit `wall_time` of {limit:?} reached"))),
            Ok(Err(error)) => Returned::cut(failure_of(&error, guest)),
            Ok(Ok(returned)) => returned,
        };
        live.served += 1;
        let spent = if alone {
            self.park(sandbox, call, live)
        } else {
            Some(live)
        };
        if usage.peak_memory >= LARGE {
            foreground::blocking(move || drop(spent)).await;
        }
        Outcome {
            result: said.map(|()| call.take_effects()),
            logs: call.take_logs(),
            wall: started.elapsed(),
            usage,
        }
    }

    /// A store for a call: that of an instance which waits, or else a fresh one.
    fn take(&self, sandbox: &Sandbox, call: &Arc<Call>) -> Live<E::Instance> {
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

    /// Keeps an instance whose invocation ended well, if its function reuses instances and there is room; else it comes
    /// back.
    fn park(&self, sandbox: &Sandbox, call: &Call, live: Live<E::Instance>) -> Option<Live<E::Instance>> {
        let Some(reuse) = call.spec.reuse.filter(|reuse| live.served < reuse.invocations) else {
            return Some(live);
        };
        let Some(place) = sandbox.place_to_wait() else {
            return Some(live);
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
        None
    }
}

impl Returned {
    /// What is left of a call that was ended.
    fn cut(failure: Failure) -> Self {
        Self {
            said: Err(failure),
            alone: false,
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
        let old = services
            .clock
            .now_ms()
            .saturating_sub(whole_milliseconds(reuse.idle));
        parked.retain(|waiting| waiting.since > old);
        // The one that has waited longest is the first.
        let Some(first) = parked.first() else { return };
        pause = Duration::from_millis((first.since - old).max(1));
    }
}

fn whole_milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn lock<I>(parked: &Parked<I>) -> MutexGuard<'_, Vec<Waiting<I>>> {
    parked.lock().unwrap_or_else(PoisonError::into_inner)
}
