//! A leased job's session with the host: objects, checkpoint, progress, and the heartbeats that keep the lease.

use std::fs::File;
use std::io::{Seek, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tidegate_trace::Context;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::session::{JobError, Progress, Registered, Session, Variant};
use crate::host::{Host, HostError, Leased, Right};

/// The bucket in which jobs keep their checkpoints.
const CHECKPOINTS: &str = "tidegate-jobs";
/// Tries of a call for a job while the host is away.
const TRIES: u32 = 6;
/// Longest time between heartbeats.
const BEAT: Duration = Duration::from_secs(1);

/// A job's session with the host.
#[derive(Debug)]
pub struct HostSession {
    host: Host,
    job: String,
    token: String,
    expires: Duration,
    runtime: Handle,
    /// Where the work stands in its trace.
    context: Option<Context>,
    progress: Mutex<Option<Progress>>,
    reported: Notify,
    abandoned: AtomicBool,
}

impl HostSession {
    /// The session of a job just leased; must be made inside the runtime.
    pub fn new(host: Host, leased: &Leased) -> Self {
        Self {
            host,
            job: leased.job.id.clone(),
            token: leased.lease.token.clone(),
            expires: Duration::from_millis(leased.lease.expires_ms.max(1)),
            runtime: Handle::current(),
            context: leased.job.work(),
            progress: Mutex::new(None),
            reported: Notify::new(),
            abandoned: AtomicBool::new(false),
        }
    }

    /// Tells the host how the job ended, unless nobody there waits for it.
    pub async fn conclude(&self, ended: Result<Value, JobError>) {
        let told = match ended {
            Ok(outputs) => {
                self.persist(async || self.host.complete(&self.job, &self.token, &outputs).await)
                    .await
            }
            Err(JobError::Abandoned) => return,
            Err(error) => {
                let retry = matches!(error, JobError::Transient(_));
                let reason = error.to_string();
                self.persist(async || self.host.fail(&self.job, &self.token, &reason, retry).await)
                    .await
            }
        };
        if let Err(error) = told {
            tracing::warn!(job = self.job, "the host was not told how the job ended: {error}");
        }
    }

    /// Makes a call, again while the host is away.
    async fn persist<T>(&self, call: impl AsyncFn() -> Result<T, HostError>) -> Result<T, HostError> {
        let mut pause = Duration::from_millis(100);
        for _ in 1..TRIES {
            match call().await {
                Err(HostError::Unavailable { call, reason }) => tracing::debug!("{call} failed: {reason}"),
                other => return other,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        call().await
    }

    /// The same from the job's own thread, with the error as the job's.
    fn wait<T>(&self, call: impl AsyncFn() -> Result<T, HostError>) -> Result<T, JobError> {
        if self.abandoned() {
            return Err(JobError::Abandoned);
        }
        let calling = self.persist(call);
        let called = match self.context {
            Some(context) => self.runtime.block_on(tidegate_trace::within(context, calling)),
            None => self.runtime.block_on(calling),
        };
        called.map_err(|error| {
            if matches!(error, HostError::LeaseLost) {
                self.abandoned.store(true, Ordering::Relaxed);
            }
            job_error(&error)
        })
    }

    fn right(&self) -> Right<'_> {
        Right::Lease(&self.token)
    }

    fn checkpoint_key(&self) -> String {
        format!("{}/checkpoint", self.job)
    }

    /// One heartbeat; whether the session goes on.
    async fn beat(&self, last: &mut Instant) -> bool {
        let progress = self
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match self
            .host
            .heartbeat(&self.job, &self.token, progress.as_ref())
            .await
        {
            Ok(()) => {
                *last = Instant::now();
                true
            }
            Err(HostError::Unavailable { reason, .. }) if last.elapsed() < self.expires => {
                tracing::debug!(job = self.job, "a heartbeat failed: {reason}");
                true
            }
            Err(error) => {
                tracing::warn!(job = self.job, "the job is dropped: {error}");
                false
            }
        }
    }
}

/// Sends heartbeats until the lease is lost, as of a job that is cancelled, or `stop` true; then the job is abandoned. What
/// the job reports goes out at once: who follows it sees every epoch, however short.
pub async fn keep(session: std::sync::Arc<HostSession>, mut stop: watch::Receiver<bool>) {
    let every = (session.expires / 5).min(BEAT);
    let mut last = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = session.reported.notified() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        if !session.beat(&mut last).await {
            break;
        }
    }
    session.abandoned.store(true, Ordering::Relaxed);
}

fn job_error(error: &HostError) -> JobError {
    match error {
        HostError::LeaseLost => JobError::Abandoned,
        HostError::NotFound(_) | HostError::Refused { .. } => JobError::Invalid(error.to_string()),
        HostError::Unavailable { .. } => JobError::Transient(error.to_string()),
    }
}

/// A file as it is read from its beginning.
fn rewound(file: &File) -> std::io::Result<tokio::fs::File> {
    let mut again = file.try_clone()?;
    again.rewind()?;
    Ok(tokio::fs::File::from_std(again))
}

fn local(error: &std::io::Error) -> HostError {
    HostError::Unavailable {
        call: "keeping a temporary file".to_owned(),
        reason: error.to_string(),
    }
}

impl Session for HostSession {
    fn read(&self, bucket: &str, key: &str) -> Result<Bytes, JobError> {
        self.wait(async || self.host.read(bucket, key, self.right()).await)
    }

    fn download(&self, bucket: &str, key: &str) -> Result<File, JobError> {
        self.wait(async || {
            let mut response = self.host.get(bucket, key, self.right()).await?;
            let mut file = tempfile::tempfile().map_err(|e| local(&e))?;
            while let Some(part) = response.chunk().await.map_err(|e| HostError::Unavailable {
                call: format!("reading object `{bucket}/{key}`"),
                reason: e.to_string(),
            })? {
                file.write_all(&part).map_err(|e| local(&e))?;
            }
            file.rewind().map_err(|e| local(&e))?;
            Ok(file)
        })
    }

    fn write(&self, bucket: &str, key: &str, content: Bytes) -> Result<(), JobError> {
        self.wait(async || self.host.put(bucket, key, &self.token, content.clone()).await)
    }

    fn upload(&self, bucket: &str, key: &str, content: &File) -> Result<(), JobError> {
        self.wait(async || {
            let content = rewound(content).map_err(|e| local(&e))?;
            self.host.put(bucket, key, &self.token, content).await
        })
    }

    fn list(&self, bucket: &str, prefix: &str, after: Option<&str>) -> Result<Vec<String>, JobError> {
        self.wait(async || self.host.list(bucket, prefix, after, &self.token).await)
    }

    fn model(&self, reference: &str) -> Result<Registered, JobError> {
        self.wait(async || self.host.model(reference, &self.token).await)
    }

    fn register(&self, variant: &Variant<'_>) -> Result<u64, JobError> {
        self.wait(async || self.host.register_variant(variant, &self.token).await)
    }

    fn load_checkpoint(&self) -> Result<Option<Bytes>, JobError> {
        self.wait(async || {
            match self
                .host
                .read(CHECKPOINTS, &self.checkpoint_key(), self.right())
                .await
            {
                Ok(content) => Ok(Some(content)),
                Err(HostError::NotFound(_)) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn save_checkpoint(&self, content: Bytes) -> Result<(), JobError> {
        self.write(CHECKPOINTS, &self.checkpoint_key(), content)
    }

    fn report(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
        self.reported.notify_one();
    }

    fn abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}
