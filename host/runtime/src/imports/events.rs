//! `events`: emit.

use super::bindings::tidegate::function::events;
use super::{Error, LONGEST_KEY, at_most};
use crate::effects::Emission;
use crate::sandbox::Guest;

impl events::Host for Guest {
    fn emit(&mut self, event: events::Outgoing) -> wasmtime::Result<Result<String, Error>> {
        self.count_call()?;
        Ok(self.call.stage_event(event))
    }
}

impl crate::sandbox::Call {
    fn stage_event(&self, event: events::Outgoing) -> Result<String, Error> {
        self.spec
            .grants
            .allows_emit(&self.spec.name, &event.kind)
            .map_err(Error::Denied)?;
        let bytes = |text: &Option<String>| text.as_deref().map_or(0, str::len);
        at_most("bytes of a subject", bytes(&event.subject), LONGEST_KEY)?;
        at_most("bytes of a content type", bytes(&event.content_type), LONGEST_KEY)?;
        let mut effects = self.effects();
        let id = self.derived_id(effects.ordinal());
        effects.emit(Emission {
            id: id.clone(),
            kind: event.kind,
            subject: event.subject,
            content_type: event.content_type,
            data: event.data.into(),
            delay: event.delay_ms,
        })?;
        Ok(id)
    }
}
