//! Jobs: the loop that leases them one at a time, and what a running one may use.

pub mod lease;
pub mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate_trace::{Kind, Span, Spans, now_ns};
use tokio::sync::watch;

use crate::command::{self, Commands};
use crate::devices;
use crate::health::Health;
use crate::host::{Host, HostError, Job, Leased, Registration};
use crate::predict;
use crate::quantise;
use crate::train::{mlp, trees, two_tower};
use lease::{HostSession, keep};
use session::{JobError, Session};

/// How long one call waits for a job.
const LEASE_WAIT: Duration = Duration::from_secs(20);
/// Longest pause after a failed call.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The kinds of job that every worker takes.
const KINDS: [&str; 6] = [
    two_tower::KIND,
    mlp::KIND,
    trees::BOOSTING,
    trees::FOREST,
    predict::KIND,
    quantise::KIND,
];

/// The kinds of job that a worker with these commands takes.
pub fn kinds(commands: &Commands) -> Vec<&'static str> {
    let command = (!commands.is_empty()).then_some(command::KIND);
    KINDS.into_iter().chain(command).collect()
}

/// A worker, as its host knows it.
#[derive(Debug)]
pub struct Worker {
    /// The host.
    pub host: Host,
    /// Its name.
    pub name: String,
    /// The kinds of job that it takes; with none, it asks for jobs only to learn whether the host is still there.
    pub kinds: Vec<&'static str>,
    /// What `train.command` may run.
    pub commands: Arc<Commands>,
    /// Where it serves inference, if it does.
    pub inference: Option<SocketAddr>,
    /// Who is told whether the host knows it.
    pub health: Health,
    /// Where spans go.
    pub spans: Spans,
}

impl Worker {
    /// Registers, then leases and runs jobs until `stop` turns true.
    pub async fn work(&self, stop: watch::Receiver<bool>) {
        let mut stopping = stop.clone();
        tokio::select! {
            () = self.serve(&stop) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }

    async fn serve(&self, stop: &watch::Receiver<bool>) {
        let mut pause = Duration::from_millis(100);
        loop {
            let failed = match self.attend(stop, &mut pause).await {
                Ok(()) => continue,
                Err(error) => error,
            };
            self.health.note(false);
            tracing::warn!("{failed}; trying again in {pause:?}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Registers and leases until a call fails: a host that restarted knows its workers no more.
    async fn attend(&self, stop: &watch::Receiver<bool>, pause: &mut Duration) -> Result<(), HostError> {
        let devices = devices::list();
        let registration = Registration {
            worker: &self.name,
            devices: &devices,
            kinds: &self.kinds,
            inference_addr: self.inference.map(|address| address.to_string()),
        };
        self.host.register(&registration).await?;
        self.health.note(true);
        let inference = self.inference.map(tracing::field::display);
        tracing::info!(worker = self.name, inference, "registered");
        loop {
            let leased = self.host.lease(&registration, LEASE_WAIT).await?;
            *pause = Duration::from_millis(100);
            if let Some(leased) = leased {
                self.run(leased, stop).await;
            }
        }
    }

    /// Runs one job to its end, whatever it is.
    async fn run(&self, leased: Leased, stop: &watch::Receiver<bool>) {
        let since = now_ns();
        let (id, kind, attempt) = (leased.job.id.clone(), leased.job.kind.clone(), leased.job.attempt);
        tracing::info!(job = id, kind, attempt, "job started");
        let session = Arc::new(HostSession::new(self.host.clone(), &leased));
        let keeper = tokio::spawn(keep(session.clone(), stop.clone()));
        let (working, config) = (session.clone(), leased.job.config.clone());
        let commands = self.commands.clone();
        let working = move || execute(&kind, &config, &commands, &working);
        let ended = tokio::task::spawn_blocking(working).await;
        let ended =
            ended.unwrap_or_else(|panic| Err(JobError::Transient(format!("the job panicked: {panic}"))));
        self.spans.record(|| span(&leased.job, since, &ended));
        match &ended {
            Ok(_) => tracing::info!(job = id, "job completed"),
            Err(error) => tracing::warn!(job = id, "job ended: {error}"),
        }
        session.conclude(ended).await;
        keeper.abort();
    }
}

/// The span of the work on a job.
fn span(job: &Job, since: u64, ended: &Result<Value, JobError>) -> Option<Span> {
    let times = (since, now_ns());
    let span = Span::new(job.work()?, job.attempt_context(), Kind::Internal, "work", times)
        .with("tidegate.job", job.id.as_str());
    Some(match ended {
        Ok(_) => span,
        Err(error) => span.failed("job", &error.to_string()),
    })
}

fn execute(
    kind: &str,
    config: &Value,
    commands: &Commands,
    session: &HostSession,
) -> Result<Value, JobError> {
    lower_priority();
    run(kind, config, commands, session)
}

/// Runs a job of one of the [`kinds`] to its outputs.
fn run(kind: &str, config: &Value, commands: &Commands, session: &dyn Session) -> Result<Value, JobError> {
    match kind {
        two_tower::KIND => two_tower::run(config, session),
        mlp::KIND => mlp::run(config, session),
        trees::BOOSTING | trees::FOREST => trees::run(kind, config, session),
        predict::KIND => predict::run(config, session),
        quantise::KIND => quantise::run(config, session),
        command::KIND => command::run(commands, config, session),
        other => Err(JobError::Invalid(format!(
            "unknown kind of job `{other}`, allowed are `{}`",
            kinds(commands).join("`, `")
        ))),
    }
}

/// Jobs give way to inference: their thread is made nicer. Where the system refuses, nothing is lost.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    // SAFETY: `setpriority` with PRIO_PROCESS and 0 touches only the scheduling of the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 5);
    }
}
