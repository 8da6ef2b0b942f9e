//! Replay: a past event, run again by any version of its function, in a scratch copy that leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Platform;
use super::aliases::{AliasError, found, no_alias};
use super::apps::AppRecord;
use super::versions::Versions;
use crate::deploy::Deployable;
use crate::dispatch::NoPlace;
use crate::effects::{Change, Summary};
use crate::event::Event;
use crate::records::{KEEP_PAST, LARGEST_PAST, LogLine, StepRecord};
use crate::sandbox::{Call, EventFunction, Outcome, Program, Usage};
use crate::store::StoreError;

/// How long a replay waits for a place among the invocations of the host.
const WAIT: Duration = Duration::from_secs(2);

/// What is kept, for people.
const KIB: usize = LARGEST_PAST >> 10;
const DAYS: u64 = KEEP_PAST.as_secs() / 86_400;

/// Which version is to run.
#[derive(Debug, Clone)]
pub enum Which {
    /// This one.
    Version(u64),
    /// The one that the event's run falls to among those of an alias.
    Alias(String),
}

/// What is to be run again.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The event.
    pub event: String,
    /// The function; it may be left out where one function alone has the event.
    pub function: Option<String>,
    /// Its version.
    pub which: Which,
    /// Whether it may reach other servers, where what it does has its effects.
    pub outbound: bool,
}

/// What came of a replay.
#[derive(Debug, Serialize)]
pub struct Replayed {
    /// The event.
    pub event: String,
    /// The function.
    pub function: String,
    /// The version that ran.
    pub version: u64,
    /// Why it failed; none where it did not.
    pub reason: Option<String>,
    /// How long it took.
    pub duration_ms: f64,
    /// What it took.
    pub usage: Usage,
    /// What it logged.
    pub logs: Vec<LogLine>,
    /// What was done with the event, with the version that it entered for.
    pub recorded: StepRecord,
    /// Whether it is known what effects that had; otherwise nothing is compared.
    pub compared: bool,
    /// The effects that it would have had, beside those that were had.
    pub effects: Vec<Change>,
    /// Effects beyond those that are listed.
    pub more: u64,
}

/// Why nothing was run again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such event (any more).
    #[error("event `{0}` is not kept: those with up to {KIB} KiB of data are kept for {DAYS} days")]
    NoEvent(String),
    /// The function does not have it, or several have and none was named.
    #[error("event `{event}` went to {handlers}; {wanted}")]
    Handler {
        /// The event.
        event: String,
        /// Who has it.
        handlers: String,
        /// What is missing.
        wanted: String,
    },
    /// The version answers requests.
    #[error("version {version} of function `{function}` answers HTTP requests; only events can be replayed")]
    Http {
        /// The function.
        function: String,
        /// The version.
        version: u64,
    },
    /// Enough runs.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    /// The version cannot be found or run.
    #[error(transparent)]
    Version(#[from] AliasError),
    /// The store, or a worker, did not answer the guest.
    #[error("the replay could not be finished: {0}")]
    Unavailable(String),
}

impl From<StoreError> for ReplayError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Platform {
    /// Runs a past event again. Reads see the store as it is now, and what the run itself wrote; what it asks for is
    /// told and dropped.
    pub async fn replay(&self, replay: &Replay) -> Result<Replayed, ReplayError> {
        let records = &self.services.records;
        let event = records.past_event(&replay.event).await?;
        let event = event.ok_or_else(|| ReplayError::NoEvent(replay.event.clone()))?;
        let recorded = handler(replay, records.steps_of(&event).await?)?;
        let earlier = records.past_effects(&recorded).await?;
        let function = self.version_of(&recorded.function, &replay.which, &event).await?;
        let outcome = self.run_scratch(&function, event, replay.outbound).await?;
        let (staged, reason) = match outcome.result {
            Ok(staged) => (Summary::of(&staged), None),
            Err(failure) => (Summary::default(), Some(failure.to_string())),
        };
        Ok(Replayed {
            event: replay.event.clone(),
            function: recorded.function.clone(),
            version: function.spec.version,
            reason,
            duration_ms: outcome.wall.as_secs_f64() * 1000.0,
            usage: outcome.usage,
            logs: outcome.logs.into_lines(self.services.clock.now_ms()),
            recorded,
            compared: earlier.is_some(),
            more: staged.more,
            effects: staged.against(&earlier.unwrap_or_default()),
        })
    }

    /// The version that is to run, with instances of its own: those that events use do not see a replay.
    async fn version_of(
        &self,
        function: &str,
        which: &Which,
        event: &Event,
    ) -> Result<Deployable, ReplayError> {
        let store = self.services.store.as_ref();
        let versions = Versions::read(store, Some(function)).await?;
        let app = self.known(function, &versions)?.app.clone();
        let number = match which {
            Which::Version(number) => *number,
            Which::Alias(alias) => {
                let (record, _) = AppRecord::read(store, &app).await?;
                let split = record.alias(function, alias);
                let split = split.ok_or_else(|| no_alias(&record, function, alias))?;
                split.pick(&event.run)
            }
        };
        let version = found(&versions, &app, function, number)?;
        Ok(self.load(version).await.map_err(AliasError::from)?)
    }

    async fn run_scratch(
        &self,
        function: &Deployable,
        event: Event,
        outbound: bool,
    ) -> Result<Outcome, ReplayError> {
        let program = event_function(function)?;
        let _place = self.place(&function.spec, WAIT).await?;
        let (services, spec) = (self.services.clone(), function.spec.clone());
        let call = Call::scratch(services, spec, Arc::new(event), outbound);
        let outcome = program.run(&self.sandbox, call.clone()).await;
        match &outcome.result {
            Err(failure) if call.host_failed() => Err(ReplayError::Unavailable(failure.to_string())),
            _ => Ok(outcome),
        }
    }
}

fn event_function(function: &Deployable) -> Result<&EventFunction, ReplayError> {
    match &function.component.program {
        Program::Event(program) => Ok(program),
        Program::Http(_) => Err(ReplayError::Http {
            function: function.spec.name.clone(),
            version: function.spec.version,
        }),
    }
}

/// The step that is meant.
fn handler(replay: &Replay, steps: Vec<StepRecord>) -> Result<StepRecord, ReplayError> {
    let names: Vec<_> = steps.iter().map(|step| format!("`{}`", step.function)).collect();
    let is_meant = |step: &StepRecord| replay.function.as_ref().is_none_or(|name| *name == step.function);
    let mut meant = steps.into_iter().filter(is_meant);
    match (meant.next(), meant.next()) {
        (Some(only), None) => Ok(only),
        (first, _) => Err(ReplayError::Handler {
            event: replay.event.clone(),
            handlers: names.join(", "),
            wanted: match &replay.function {
                Some(function) if first.is_none() => format!("not to `{function}`"),
                _ => "say which with `--function`".into(),
            },
        }),
    }
}
