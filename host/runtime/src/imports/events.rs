//! `events`: emit.

use super::Error;
use super::bindings::tidegate::function::events;
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
