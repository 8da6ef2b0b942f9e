//! A guest that submits the job its event asks for.

use tidegate_sdk::jobs::Job;
use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

/// A job.
#[derive(Deserialize)]
struct Asked {
    kind: String,
    config: serde_json::Value,
    reads: Vec<String>,
    writes: Vec<String>,
}

async fn handle(event: Event) -> Result<(), Failure> {
    let asked: Asked = event.json()?;
    let job = Job::new(&asked.kind, "JobEnded");
    let job = asked.reads.into_iter().fold(job, Job::reads);
    let job = asked.writes.into_iter().fold(job, Job::writes);
    job.submit(&asked.config).map(drop)
}
