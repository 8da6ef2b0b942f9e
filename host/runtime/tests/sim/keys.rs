//! What happens key by key: how many of a key are handled at one time, and in which order.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_runtime::event::Event;
use tidegate_runtime::manifest::{Function, KeySpec};

/// A queue, of one version of a function, and a key.
type Line = (String, String);

/// Everything that has a key.
#[derive(Default)]
pub struct Keys {
    specs: BTreeMap<String, KeySpec>,
    /// Events of functions in order, as they were queued.
    order: BTreeMap<Line, Vec<String>>,
    /// How many run.
    running: BTreeMap<Line, u32>,
}

impl Keys {
    /// Of these functions.
    pub fn of(functions: &[Arc<Function>]) -> Self {
        let specs = functions
            .iter()
            .filter_map(|function| Some((function.name.clone(), function.key.clone()?)));
        Self {
            specs: specs.collect(),
            ..Self::default()
        }
    }

    fn line(&self, queue: &str, event: &Event) -> Option<(&KeySpec, Line)> {
        let spec = self.specs.get(queue.split('@').next()?)?;
        Some((spec, (queue.to_owned(), spec.of.key(event))))
    }

    /// An event was queued for the first time, and not held back.
    pub fn queued(&mut self, queue: &str, event: &Event) {
        let Some((KeySpec { ordered: true, .. }, line)) = self.line(queue, event) else {
            return;
        };
        self.order.entry(line).or_default().push(event.id.clone());
    }

    /// Those queued before an event under its key, where there is an order.
    pub fn before(&self, queue: &str, event: &Event) -> &[String] {
        let line = self.line(queue, event);
        let order = line.and_then(|(_, line)| self.order.get(&line));
        let order = order.map(Vec::as_slice).unwrap_or_default();
        let place = order.iter().position(|id| *id == event.id);
        &order[..place.unwrap_or_default()]
    }

    /// An event of a key begins to be handled; more than there may be is what must not be.
    pub fn begins(&mut self, queue: &str, event: &Event) -> Result<(), String> {
        let Some((spec, line)) = self.line(queue, event) else {
            return Ok(());
        };
        let allowed = spec.concurrency;
        let running = self.running.entry(line.clone()).or_default();
        *running += 1;
        if *running > allowed {
            return Err(format!(
                "{running} events of {line:?} run at one time, allowed are {allowed}"
            ));
        }
        Ok(())
    }

    /// It does not run any more.
    pub fn ends(&mut self, queue: &str, event: &Event) {
        if let Some((_, line)) = self.line(queue, event)
            && let Some(running) = self.running.get_mut(&line)
        {
            *running -= 1;
        }
    }
}
