//! `jobs`: submit, on terms or without, and status.

use wasmtime::component::Accessor;

use super::bindings::tidegate::function::jobs;
use super::{Error, Imports, at_most, valid_key};
use crate::effects::Submission;
use crate::event::Join;
use crate::jobs::{Job, Phase, Terms};
use crate::manifest::BucketPrefix;
use crate::sandbox::{Call, Guest};

/// Places that a job may read, and as many that it may write.
const PLACES: usize = 1000;

impl jobs::Host for Guest {
    fn submit(&mut self, job: jobs::Submission) -> wasmtime::Result<Result<String, Error>> {
        self.count_call()?;
        Ok(self.call.stage_job(job, Terms::default(), None))
    }

    fn submit_on(
        &mut self,
        job: jobs::Submission,
        terms: jobs::Terms,
    ) -> wasmtime::Result<Result<String, Error>> {
        self.count_call()?;
        Ok(self.call.stage_job(job, terms.into(), None))
    }

    fn submit_part(
        &mut self,
        job: jobs::Submission,
        terms: jobs::Terms,
    ) -> wasmtime::Result<Result<String, Error>> {
        self.count_call()?;
        let staged = self
            .call
            .join()
            .and_then(|join| self.call.stage_job(job, terms.into(), Some(join)));
        Ok(staged)
    }
}

impl<T: Send + 'static> jobs::HostWithStore<T> for Imports {
    async fn get_status(
        accessor: &Accessor<T, Self>,
        id: String,
    ) -> wasmtime::Result<Result<jobs::Status, Error>> {
        let call = Guest::call_of(accessor)?;
        Ok(call.job_status(&id).await)
    }
}

impl Call {
    fn stage_job(&self, job: jobs::Submission, terms: Terms, part_of: Option<Join>) -> Result<String, Error> {
        let (name, grants) = (&self.spec.name, &self.spec.grants);
        grants.allows_submit(name, &job.kind).map_err(Error::Denied)?;
        grants.allows_emit(name, &job.emits).map_err(Error::Denied)?;
        terms.check().map_err(Error::Invalid)?;
        at_most("places to read", job.reads.len(), PLACES)?;
        at_most("places to write", job.writes.len(), PLACES)?;
        self.check_places(&job.reads, &grants.objects.read, "objects.read")?;
        self.check_places(&job.writes, &grants.objects.write, "objects.write")?;
        let config = serde_json::from_str(&job.config)
            .map_err(|error| Error::Invalid(format!("job config: expected JSON: {error}")))?;
        let mut effects = self.effects();
        let id = self.derived_id(effects.ordinal());
        let submission = Submission {
            id: id.clone(),
            kind: job.kind,
            config,
            reads: job.reads,
            writes: job.writes,
            emits: job.emits,
            terms,
            part_of,
        };
        effects.submit(submission, job.config.len())?;
        Ok(id)
    }

    /// A job reaches every key that starts with its prefixes, so a grant has to cover all of them.
    fn check_places(&self, places: &[String], granted: &[BucketPrefix], grant: &str) -> Result<(), Error> {
        for place in places {
            let (bucket, prefix) = split_place(place)?;
            if !granted.iter().any(|granted| granted.covers_all(bucket, prefix)) {
                let function = &self.spec.name;
                return Err(Error::Denied(format!(
                    "missing grant `{grant} = [\"{place}\"]` in function `{function}`"
                )));
            }
        }
        Ok(())
    }

    async fn job_status(&self, id: &str) -> Result<jobs::Status, Error> {
        valid_key(id)?;
        let job = Job::load(self.services.store.as_ref(), id).await;
        let job = job.map_err(|error| self.unavailable(error))?;
        let job = job.ok_or_else(|| Error::NotFound(format!("job `{id}`")))?;
        self.spec
            .grants
            .allows_submit(&self.spec.name, &job.kind)
            .map_err(Error::Denied)?;
        let phase = match job.phase {
            Phase::Queued => jobs::Phase::Queued,
            Phase::Running => jobs::Phase::Running,
            Phase::Succeeded => jobs::Phase::Succeeded,
            Phase::Failed | Phase::Cancelled => jobs::Phase::Failed,
        };
        Ok(jobs::Status {
            phase,
            attempt: job.attempt,
            detail: job.detail.to_string(),
        })
    }
}

impl From<jobs::Terms> for Terms {
    fn from(terms: jobs::Terms) -> Self {
        Self {
            priority: terms.priority,
            device: terms.device,
            memory: terms.memory,
            devices: terms.devices,
            timeout_ms: terms.timeout_ms,
            attempts: terms.attempts,
        }
    }
}

fn split_place(place: &str) -> Result<(&str, &str), Error> {
    place
        .split_once('/')
        .filter(|(bucket, prefix)| !bucket.is_empty() && !prefix.is_empty())
        .ok_or_else(|| Error::Invalid(format!("found `{place}`, expected `bucket/prefix`")))
}
