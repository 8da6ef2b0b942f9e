//! `log`: lines and progress.

use super::bindings::tidegate::function::log;
use crate::records::{Level, Notice, NoticeKind};
use crate::sandbox::Guest;

/// Characters of a unit at most.
const UNIT: usize = 32;

impl log::Host for Guest {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.count_call()?;
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.call.log(level, message);
        Ok(())
    }

    fn progress(&mut self, done: u64, total: u64, unit: String) -> wasmtime::Result<()> {
        self.count_call()?;
        let call = &self.call;
        call.tell(|| Notice {
            function: Some(call.spec.name.clone()),
            done: Some(done),
            total: Some(total).filter(|total| *total > 0),
            unit: Some(unit.chars().take(UNIT).collect()),
            ..Notice::about(&call.event, NoticeKind::Progress, call.services.clock.now_ms())
        });
        Ok(())
    }
}
