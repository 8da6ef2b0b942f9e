//! `events`: emit, join, emit-part.

use super::bindings::tidegate::function::events;
use super::{Error, LONGEST_KEY, at_most};
use crate::effects::{Emission, OpenedJoin};
use crate::event::Join;
use crate::sandbox::{Call, Guest};

/// Parts of a join.
const PARTS: usize = 10_000;

impl events::Host for Guest {
    fn emit(&mut self, event: events::Outgoing) -> wasmtime::Result<Result<String, Error>> {
        self.count_call()?;
        Ok(self.call.stage_event(event, None))
    }

    fn join(
        &mut self,
        parts: Vec<events::Outgoing>,
        then: events::Outgoing,
    ) -> wasmtime::Result<Result<String, Error>> {
        self.count_call()?;
        Ok(self.call.stage_join(parts, then))
    }

    fn emit_part(&mut self, event: events::Outgoing) -> wasmtime::Result<Result<String, Error>> {
        self.count_call()?;
        let staged = self
            .call
            .join()
            .and_then(|join| self.call.stage_event(event, Some(join)));
        Ok(staged)
    }
}

impl Call {
    fn stage_event(&self, event: events::Outgoing, part_of: Option<Join>) -> Result<String, Error> {
        self.check_event(&event)?;
        let mut effects = self.effects();
        let id = self.derived_id(effects.ordinal());
        effects.emit(emission(id.clone(), event, part_of))?;
        Ok(id)
    }

    fn stage_join(&self, parts: Vec<events::Outgoing>, then: events::Outgoing) -> Result<String, Error> {
        at_most("parts of a join", parts.len(), PARTS)?;
        for event in parts.iter().chain([&then]) {
            self.check_event(event)?;
        }
        let mut effects = self.effects();
        let mut ids = self.ids_from(effects.ordinal());
        let join = Join {
            id: ids(),
            opener: self.event.id.clone(),
        };
        let then = emission(ids(), then, None);
        let id = then.id.clone();
        let parts = parts
            .into_iter()
            .map(|part| emission(ids(), part, Some(join.clone())));
        let parts = parts.collect();
        effects.join(parts, OpenedJoin { join, then })?;
        Ok(id)
    }

    /// The ids of what is staged from an ordinal on.
    fn ids_from(&self, first: usize) -> impl FnMut() -> String {
        let mut ordinals = first..;
        move || self.derived_id(ordinals.next().unwrap_or_default())
    }

    fn check_event(&self, event: &events::Outgoing) -> Result<(), Error> {
        self.spec
            .grants
            .allows_emit(&self.spec.name, &event.kind)
            .map_err(Error::Denied)?;
        let bytes = |text: &Option<String>| text.as_deref().map_or(0, str::len);
        at_most("bytes of a subject", bytes(&event.subject), LONGEST_KEY)?;
        at_most("bytes of a content type", bytes(&event.content_type), LONGEST_KEY)
    }

    /// The join that everything this call handles is a part of.
    pub(super) fn join(&self) -> Result<Join, Error> {
        let mut joins = self.inputs().map(|(event, _)| &event.part_of);
        let first = joins.next().and_then(Option::as_ref);
        let same = joins.all(|join| join.as_ref() == first);
        let join = first.filter(|_| same).cloned();
        join.ok_or_else(|| {
            Error::Invalid("found no join that every handled event is a part of, expected one".into())
        })
    }
}

fn emission(id: String, event: events::Outgoing, part_of: Option<Join>) -> Emission {
    Emission {
        id,
        kind: event.kind,
        subject: event.subject,
        content_type: event.content_type,
        data: event.data.into(),
        delay: event.delay_ms,
        part_of,
    }
}
