//! The gate: how many invocations there are at one time, of the host and of each tenant, and who comes next.
//!
//! Each function that waits has a line; the lines take turns, one place each, so that a long line holds up no short
//! one. Within a line, who came first goes first. Nobody waits for a place that is free.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::manifest::Function;

/// How many invocations there may be at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Of all functions; 512 by default.
    pub total: usize,
    /// Of all functions of one tenant; 512 by default.
    pub per_tenant: usize,
    /// The same for single tenants.
    pub tenants: BTreeMap<String, usize>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            total: 512,
            per_tenant: 512,
            tenants: BTreeMap::new(),
        }
    }
}

impl Places {
    fn of(&self, tenant: &str) -> usize {
        self.tenants.get(tenant).copied().unwrap_or(self.per_tenant)
    }
}

/// Why there is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// All places of the host are taken.
    #[error("all {0} places for invocations of the host are taken")]
    Host(usize),
    /// All places of the tenant are taken.
    #[error("all {places} places for invocations of the tenant `{tenant}` are taken")]
    Tenant {
        /// The tenant.
        tenant: String,
        /// Its places.
        places: usize,
    },
}

/// The gate of a host.
#[derive(Clone)]
pub struct Gate(Arc<Mutex<Lines>>);

/// A place, until it is dropped.
#[must_use]
pub struct Place(Option<(Gate, String)>);

struct Lines {
    places: Places,
    taken: usize,
    /// By tenant; one that has no place is not there.
    of_tenants: BTreeMap<String, usize>,
    /// In the order of their turns; a line that nobody waits in is not there.
    lines: VecDeque<Line>,
}

struct Line {
    function: String,
    tenant: String,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

impl Gate {
    /// A gate with so many places.
    pub fn new(places: Places) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            places,
            taken: 0,
            of_tenants: BTreeMap::new(),
            lines: VecDeque::new(),
        })))
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for an invocation of a function, when its turn has come. Dropped while it waits, it has taken none.
    pub async fn enter(&self, function: &Function) -> Place {
        let place = {
            let mut lines = self.lines();
            if lines.room(&function.tenant).is_ok() {
                lines.take(&function.tenant);
                return self.place(&function.tenant);
            }
            lines.join(function)
        };
        // Its sender stays in the line until it sends a place.
        place.await.unwrap_or(Place(None))
    }

    /// What a function of a tenant waits for.
    pub fn full(&self, tenant: &str) -> NoPlace {
        let lines = self.lines();
        lines
            .room(tenant)
            .err()
            .unwrap_or(NoPlace::Host(lines.places.total))
    }

    fn place(&self, tenant: &str) -> Place {
        Place(Some((self.clone(), tenant.to_owned())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((gate, tenant)) = self.0.take() else {
            return;
        };
        let mut lines = gate.lines();
        lines.leave(&tenant);
        while let Some((tenant, waiting)) = lines.next() {
            match waiting.send(gate.place(&tenant)) {
                Ok(()) => lines.take(&tenant),
                // Whoever waited has gone, and the place was never taken.
                Err(mut place) => place.0 = None,
            }
        }
    }
}

impl Lines {
    fn room(&self, tenant: &str) -> Result<(), NoPlace> {
        if self.taken >= self.places.total {
            return Err(NoPlace::Host(self.places.total));
        }
        let places = self.places.of(tenant);
        if self.of_tenants.get(tenant).is_some_and(|taken| *taken >= places) {
            let tenant = tenant.to_owned();
            return Err(NoPlace::Tenant { tenant, places });
        }
        Ok(())
    }

    fn take(&mut self, tenant: &str) {
        self.taken += 1;
        *self.of_tenants.entry(tenant.to_owned()).or_default() += 1;
    }

    fn leave(&mut self, tenant: &str) {
        self.taken -= 1;
        if let Some(taken) = self.of_tenants.get_mut(tenant) {
            *taken -= 1;
            if *taken == 0 {
                self.of_tenants.remove(tenant);
            }
        }
    }

    fn join(&mut self, function: &Function) -> oneshot::Receiver<Place> {
        let (sender, place) = oneshot::channel();
        let line = self.lines.iter_mut().find(|line| line.function == function.name);
        match line {
            Some(line) => {
                // Those who wait for a limited time give up in the order in which they came.
                while line.waiting.pop_front_if(|waiting| waiting.is_closed()).is_some() {}
                line.waiting.push_back(sender);
            }
            None => self.lines.push_back(Line {
                function: function.name.clone(),
                tenant: function.tenant.clone(),
                waiting: VecDeque::from([sender]),
            }),
        }
        place
    }

    /// Who is next: the first of the first line for whose tenant there is room. The line goes behind the others.
    fn next(&mut self) -> Option<(String, oneshot::Sender<Place>)> {
        let turn = self
            .lines
            .iter()
            .position(|line| self.room(&line.tenant).is_ok())?;
        let mut line = self.lines.remove(turn)?;
        let next = line.waiting.pop_front()?;
        let tenant = line.tenant.clone();
        if !line.waiting.is_empty() {
            self.lines.push_back(line);
        }
        Some((tenant, next))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::manifest::Manifest;

    type Waits<'a> = Pin<Box<dyn Future<Output = Place> + 'a>>;

    /// The place, where there is one now.
    fn now(waits: &mut (impl Future<Output = Place> + Unpin)) -> Option<Place> {
        match pin!(waits).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    fn enter<'a>(gate: &'a Gate, function: &'a Function) -> Waits<'a> {
        Box::pin(gate.enter(function))
    }

    fn function(name: &str, tenant: &str) -> Function {
        let text = format!(
            "[app]\nname = \"a\"\ntenant = \"{tenant}\"\n[[function]]\nname = \"{name}\"\ncomponent = \"f.wasm\"\n"
        );
        Manifest::parse(&text, "t").unwrap().functions.remove(0)
    }

    fn gate(total: usize, per_tenant: usize) -> Gate {
        Gate::new(Places {
            total,
            per_tenant,
            tenants: BTreeMap::from([("small".to_owned(), 1)]),
        })
    }

    #[test]
    fn lines_take_turns_however_long_they_are() {
        let (gate, flood, other) = (gate(1, 10), function("flood", "t"), function("other", "t"));
        let mut place = now(&mut enter(&gate, &flood));
        let mut waiting: Vec<_> = (0..100).map(|_| ("flood", enter(&gate, &flood))).collect();
        waiting.extend((0..3).map(|_| ("other", enter(&gate, &other))));
        for (_, waits) in &mut waiting {
            assert!(now(waits).is_none());
        }
        let mut order = Vec::new();
        while order.len() < 8 {
            drop(place.take());
            let next = waiting.iter_mut().position(|(_, waits)| {
                place = now(waits);
                place.is_some()
            });
            order.push(waiting.remove(next.unwrap()).0);
        }
        let fair = [
            "flood", "other", "flood", "other", "flood", "other", "flood", "flood",
        ];
        assert_eq!(order, fair);
    }

    #[test]
    fn a_tenant_that_has_its_places_holds_up_no_other() {
        let (gate, small, large) = (gate(3, 10), function("f", "small"), function("g", "large"));
        let _held = now(&mut enter(&gate, &small)).unwrap();
        let mut waits = enter(&gate, &small);
        assert!(now(&mut waits).is_none());
        assert_eq!(
            gate.full("small").to_string(),
            "all 1 places for invocations of the tenant `small` are taken"
        );
        let one = now(&mut enter(&gate, &large)).unwrap();
        let _other = now(&mut enter(&gate, &large)).unwrap();
        assert_eq!(gate.full("large"), NoPlace::Host(3));
        drop(one);
        assert!(now(&mut waits).is_none(), "the place is not for this tenant");
        assert!(now(&mut enter(&gate, &large)).is_some());
    }

    #[test]
    fn who_gives_up_takes_no_place() {
        let (gate, f) = (gate(1, 1), function("f", "t"));
        let held = now(&mut enter(&gate, &f)).unwrap();
        let mut gone = enter(&gate, &f);
        let mut told = enter(&gate, &f);
        let mut last = enter(&gate, &f);
        for waits in [&mut gone, &mut told, &mut last] {
            assert!(now(waits).is_none());
        }
        drop(gone);
        drop(held);
        drop(told);
        let place = now(&mut last).unwrap();
        drop(place);
        let lines = gate.lines();
        assert!(lines.room("t").is_ok() && lines.lines.is_empty());
    }
}
