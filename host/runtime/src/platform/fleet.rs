//! The fleet: the versions of functions that are loaded, those that are live and those that drain.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;

use super::apps::Splits;
use super::requests::Routed;
use super::{Handles, Platform};
use crate::deploy::Deployable;
use crate::dispatch::{Dispatcher, drained};
use crate::manifest::Function;
use crate::sandbox::{Program, Sandbox, Sandboxed};
use crate::services::Services;
use crate::trigger::{Matched, Router, Split, clash};

/// What is loaded.
#[derive(Default)]
pub(super) struct Fleet {
    /// By app, the versions that take events and requests.
    live: BTreeMap<String, Splits>,
    running: BTreeMap<(String, u64), Running>,
}

/// A version of a function that is loaded.
pub(super) struct Running {
    pub(super) app: String,
    pub(super) function: Deployable,
    /// Handles the events of an event function.
    dispatcher: Option<Arc<Dispatcher>>,
    /// Stops it.
    stop: CancellationToken,
    /// Set while it drains; cancelled when it is live again.
    drain: Option<CancellationToken>,
}

impl Running {
    pub(super) fn new(
        app: &str,
        function: Deployable,
        services: &Arc<Services>,
        sandbox: &Arc<Sandbox>,
    ) -> Self {
        let dispatcher = match &function.component.program {
            Program::Event(program) => {
                let (sandbox, program) = (sandbox.clone(), program.clone());
                let handler = Arc::new(Sandboxed { sandbox, program });
                Some(Dispatcher::new(services, function.spec.clone(), handler))
            }
            Program::Http(_) => None,
        };
        Self {
            app: app.to_owned(),
            function: Deployable {
                bytes: bytes::Bytes::new(),
                ..function
            },
            dispatcher,
            stop: CancellationToken::new(),
            drain: None,
        }
    }

    /// Why a function of another app cannot be deployed beside this one.
    fn takes_from(&self, other: &Function) -> Option<String> {
        let (spec, app) = (&self.function.spec, &self.app);
        if spec.name == other.name {
            return Some(format!(
                "function `{}` belongs to the app `{app}` already",
                other.name
            ));
        }
        let pairs = other
            .triggers
            .iter()
            .flat_map(|wanted| spec.triggers.iter().map(move |taken| (wanted, taken)));
        let (wanted, taken) = pairs.into_iter().find(|(wanted, taken)| clash(wanted, taken))?;
        Some(format!(
            "`{wanted}` of function `{}` answers the requests of `{taken}`, which belongs to function `{}` of the \
             app `{app}`",
            other.name, spec.name
        ))
    }
}

impl Fleet {
    /// A version that is loaded.
    pub(super) fn running(&self, function: &str, version: u64) -> Option<&Running> {
        self.running.get(&(function.to_owned(), version))
    }

    /// What handles the events of a queue, where its version is loaded.
    pub(super) fn dispatcher(&self, queue: &str) -> Option<Arc<Dispatcher>> {
        let mut dispatchers = self
            .running
            .values()
            .filter(|running| running.function.spec.queue() == queue);
        dispatchers.find_map(|running| running.dispatcher.clone())
    }

    /// Loads a version that takes no new events.
    pub(super) fn add(&mut self, running: Running) -> Option<Arc<Dispatcher>> {
        let spec = &running.function.spec;
        let at = (spec.name.clone(), spec.version);
        self.running.entry(at).or_insert(running).dispatcher.clone()
    }

    /// A version that answers requests.
    pub(super) fn routed(&self, matched: Matched, version: u64) -> Option<Routed> {
        let function = &self.running(matched.function(), version)?.function;
        let Program::Http(program) = &function.component.program else {
            return None;
        };
        Some(Routed::new(function.spec.clone(), program.clone(), matched))
    }

    /// Whether an app's events and requests go to these versions, and all of them are loaded.
    pub(super) fn has(&self, app: &str, live: &Splits) -> bool {
        let loaded = |(function, split): (&String, &Split)| {
            let mut versions = split.shares().map(|(version, _)| version);
            versions.all(|version| self.running(function, version).is_some())
        };
        self.live.get(app) == Some(live) && live.iter().all(loaded)
    }

    /// The live versions of a function.
    pub(super) fn split(&self, function: &str) -> Option<&Split> {
        self.live.values().find_map(|splits| splits.get(function))
    }

    /// Every live function, in the version with the largest share.
    pub(super) fn functions(&self) -> impl Iterator<Item = (&Running, &Split)> {
        let splits = self.live.values().flatten();
        splits.filter_map(|(name, split)| Some((self.running(name, split.heaviest())?, split)))
    }

    /// Those whose schedules fire.
    pub(super) fn timed(&self) -> Vec<Arc<Function>> {
        let functions = self.functions();
        functions
            .map(|(running, _)| running.function.spec.clone())
            .collect()
    }

    /// A live function, in the version with the largest share.
    pub(super) fn function(&self, name: &str) -> Option<&Running> {
        self.running(name, self.split(name)?.heaviest())
    }

    /// The queues of all event functions that are loaded, each with its function.
    pub(super) fn queues(&self) -> Vec<(String, String)> {
        let loaded = self.running.values().map(|running| &running.function);
        let of_events = loaded.filter(|function| matches!(function.component.program, Program::Event(_)));
        of_events
            .map(|function| (function.spec.name.clone(), function.spec.queue()))
            .collect()
    }

    /// The names of the live functions, for a message.
    pub(super) fn names(&self) -> String {
        let names = self.live.values().flat_map(BTreeMap::keys);
        let shown: Vec<_> = names.map(|name| format!("`{name}`")).collect();
        shown.join(", ")
    }

    /// Why a function cannot be deployed beside those of other apps, names and routes of which are taken.
    pub(super) fn taken(&self, app: &str, function: &Function) -> Option<String> {
        let mut others = self.live().filter(|running| running.app != app);
        others.find_map(|running| running.takes_from(function))
    }

    fn live(&self) -> impl Iterator<Item = &Running> {
        self.running.values().filter(|running| self.is_live(running))
    }

    fn is_live(&self, running: &Running) -> bool {
        let spec = &running.function.spec;
        let split = self
            .live
            .get(&running.app)
            .and_then(|splits| splits.get(&spec.name));
        split.is_some_and(|split| split.has(spec.version))
    }

    fn router(&self) -> Router {
        let specs: Vec<_> = self.live().map(|running| running.function.spec.clone()).collect();
        let splits = self.live.values().flatten();
        Router::split(
            &specs,
            splits
                .map(|(name, split)| (name.clone(), split.clone()))
                .collect(),
        )
    }
}

impl Platform {
    /// Sends the events and requests of an app's functions to these versions from now on; `arrived` are those that
    /// are not loaded yet. Versions that were live before drain.
    pub(super) fn activate(&self, app: &str, live: Splits, arrived: Vec<Deployable>) {
        let mut fleet = self.fleet.write().unwrap_or_else(PoisonError::into_inner);
        fleet.live.insert(app.to_owned(), live);
        for function in arrived {
            let at = (function.spec.name.clone(), function.spec.version);
            let new = || Running::new(app, function, &self.services, &self.sandbox);
            let running = fleet.running.entry(at);
            running.or_insert_with(|| self.started(new()));
        }
        // First the table, then the drains: what is not routed to any more is what drains.
        self.services.set_router(fleet.router());
        self.turn_drains(&mut fleet);
        let timed = fleet.timed();
        drop(fleet);
        if self.config.handles != Handles::Handed {
            self.scheduler.set(&timed);
        }
    }

    /// Lets a version that is loaded handle its queue, where queues are handled here.
    fn started(&self, mut running: Running) -> Running {
        let handled = self.config.handles == Handles::Queues;
        if let Some(dispatcher) = running.dispatcher.as_ref().filter(|_| handled) {
            running.stop = dispatcher.start();
        }
        running
    }

    fn turn_drains(&self, fleet: &mut Fleet) {
        // Nothing waits for a drain where nothing runs by itself: what is loaded goes with the process.
        if self.config.handles == Handles::Handed {
            return;
        }
        let mut versions = std::mem::take(&mut fleet.running);
        for running in versions.values_mut() {
            match (fleet.is_live(running), running.drain.take()) {
                (true, Some(drain)) => drain.cancel(),
                (false, None) => running.drain = Some(self.unload_when_drained(&running.function.spec)),
                (_, drain) => running.drain = drain,
            }
        }
        fleet.running = versions;
    }

    /// Unloads a version when its events are done, unless the token is cancelled first.
    fn unload_when_drained(&self, spec: &Arc<Function>) -> CancellationToken {
        let (services, fleet, spec) = (self.services.clone(), self.fleet.clone(), spec.clone());
        let token = services.stopping.child_token();
        let revived = token.clone();
        self.services.spawn(async move {
            let queue = spec.queue();
            if revived
                .run_until_cancelled(drained(&services, &queue))
                .await
                .is_some()
                && unload(&fleet, &spec, &revived)
                && let Err(error) = services.store.retire(&queue).await
            {
                tracing::warn!(queue, %error, "the queue of a version that has drained stays for now");
            }
        });
        token
    }
}

/// Unloads a version; whether it was there, and was not wanted again.
fn unload(fleet: &RwLock<Fleet>, spec: &Function, revived: &CancellationToken) -> bool {
    let mut fleet = fleet.write().unwrap_or_else(PoisonError::into_inner);
    if revived.is_cancelled() {
        return false;
    }
    let Some(running) = fleet.running.remove(&(spec.name.clone(), spec.version)) else {
        return false;
    };
    running.stop.cancel();
    tracing::info!(
        function = spec.name,
        version = spec.version,
        "a version has drained"
    );
    true
}
