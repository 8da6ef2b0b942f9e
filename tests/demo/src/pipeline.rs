//! Follows what an upload sets off, and shows each step.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::HumanCount;
use serde_json::Value;
use tidegate_harness::Notice;

use crate::screen::{Screen, Step};

/// The steps that one upload sets off.
#[derive(Debug)]
pub struct Pipeline<'s> {
    screen: &'s Screen,
    run: Option<String>,
    /// Steps that run, by the event (or job) and the function.
    running: HashMap<(String, String), Step<'s>>,
    /// What each event caused, in words, by the event handled.
    caused: HashMap<String, Vec<String>>,
    /// What became of the model.
    model: Option<Value>,
    failure: Option<String>,
    last: bool,
}

impl<'s> Pipeline<'s> {
    /// A pipeline that has not begun.
    pub fn new(screen: &'s Screen) -> Self {
        let (running, caused) = (HashMap::new(), HashMap::new());
        Self {
            screen,
            run: None,
            running,
            caused,
            model: None,
            failure: None,
            last: false,
        }
    }

    /// What became of the model, if one was trained.
    pub fn into_model(self) -> Option<Value> {
        self.model
    }

    /// Shows a notice; whether the run has ended with it.
    pub fn take(&mut self, notice: &Notice) -> Result<bool> {
        match &self.run {
            Some(run) if *run != notice.run => return Ok(false),
            Some(_) => {}
            None if notice.event_type == "tidegate.object.created" => self.run = Some(notice.run.clone()),
            None => return Ok(false),
        }
        match notice.kind.as_str() {
            "event" => self.event(notice),
            "started" => drop(self.step(notice)),
            "progress" => self.progress(notice),
            "retry" => self
                .step(notice)
                .retry(notice.reason.as_deref().unwrap_or("no reason given")),
            "done" => self.done(notice),
            "dead" => self.dead(notice)?,
            "job" => self.job(notice)?,
            _ => {}
        }
        if let (Some(failure), true) = (&self.failure, self.running.is_empty()) {
            bail!("{failure}");
        }
        Ok(self.last && self.running.is_empty())
    }

    fn event(&mut self, notice: &Notice) {
        let data = notice.data.clone().unwrap_or_default();
        match notice.event_type.as_str() {
            "DataRejected" => self.failure = Some(format!("the data was rejected: {}", reasons(&data))),
            "tidegate.job.failed" => {
                self.failure = Some(format!("training failed: {}", text(&data["reason"])))
            }
            "ModelPromoted" | "ModelRejected" => (self.model, self.last) = (Some(data.clone()), true),
            "CatalogReady" => self.last = true,
            _ => {}
        }
        if let (Some(parent), Some(said)) = (&notice.parent, summary(&notice.event_type, &data)) {
            self.caused.entry(parent.clone()).or_default().push(said);
        }
    }

    fn progress(&mut self, notice: &Notice) {
        let words = [notice.unit.as_deref(), notice.message.as_deref()];
        let said = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
        self.step(notice)
            .progress(notice.done.unwrap_or_default(), notice.total, &said);
    }

    fn done(&mut self, notice: &Notice) {
        let took = Duration::from_secs_f64(notice.duration_ms.unwrap_or_default().max(0.0) / 1e3);
        let said = match self.caused.remove(&notice.event) {
            Some(caused) => caused.join("; "),
            None if name_of(notice) == "train" => "handed to the worker".to_owned(),
            None => String::new(),
        };
        self.end(notice).done(&said, took);
    }

    fn dead(&mut self, notice: &Notice) -> Result<()> {
        let reason = notice
            .reason
            .clone()
            .unwrap_or_else(|| "no reason given".to_owned());
        let name = name_of(notice);
        self.end(notice).failed(&reason);
        bail!("`{name}` failed for good: {reason}")
    }

    fn job(&mut self, notice: &Notice) -> Result<()> {
        match notice.subject.as_deref() {
            Some("succeeded") => {
                let took = Duration::from_secs_f64(notice.duration_ms.unwrap_or_default().max(0.0) / 1e3);
                let said = notice.data.as_ref().map(trained).unwrap_or_default();
                self.end(notice).done(&said, took);
            }
            Some("failed") => self.dead(notice)?,
            Some("queued") => self
                .step(notice)
                .retry(notice.reason.as_deref().unwrap_or("waits for a worker")),
            _ => drop(self.step(notice)),
        }
        Ok(())
    }

    fn step(&mut self, notice: &Notice) -> &Step<'s> {
        let screen = self.screen;
        self.running
            .entry(key(notice))
            .or_insert_with(|| screen.step(&name_of(notice)))
    }

    fn end(&mut self, notice: &Notice) -> Step<'s> {
        self.running
            .remove(&key(notice))
            .unwrap_or_else(|| self.screen.step(&name_of(notice)))
    }
}

/// A job's notices name whichever worker holds it, which may change.
fn key(notice: &Notice) -> (String, String) {
    (notice.event.clone(), name_of(notice))
}

fn name_of(notice: &Notice) -> String {
    if is_job(notice) {
        return notice.event_type.rsplit('.').next().unwrap_or("job").to_owned();
    }
    notice
        .function
        .clone()
        .unwrap_or_else(|| notice.event_type.clone())
}

fn is_job(notice: &Notice) -> bool {
    notice.kind == "job" || notice.event_type.starts_with("train.")
}

/// What an event says of the step that emitted it.
fn summary(event_type: &str, data: &Value) -> Option<String> {
    let said = match event_type {
        "CatalogReady" => format!("{} items", count(&data["rows"])),
        "DataReady" => format!(
            "{} rows into {} files, {} skipped",
            count(&data["rows"]),
            data["files"].as_array().map_or(0, Vec::len),
            count(&data["skipped"])
        ),
        "DataValidated" => {
            format!(
                "{} rows passed, {} in quarantine",
                count(&data["rows"]),
                count(&data["quarantined"])
            )
        }
        "DataRejected" => reasons(data),
        "FeaturesReady" => {
            let rows = &data["rows"];
            let parts = ["train", "validation", "test"].map(|part| format!("{} {part}", count(&rows[part])));
            format!("{} rows", parts.join(", "))
        }
        "ModelPromoted" | "ModelRejected" => {
            format!(
                "version {}: {}, {}",
                text(&data["version"]),
                text(&data["decision"]),
                text(&data["reason"])
            )
        }
        _ => return None,
    };
    Some(said)
}

fn trained(outputs: &Value) -> String {
    let auc = outputs["metrics"]["validation"]["auc"].as_f64();
    let auc = auc
        .map(|auc| format!(", validation AUC {auc:.4}"))
        .unwrap_or_default();
    format!(
        "{} epochs, the best was {}{auc}",
        text(&outputs["epochs"]),
        text(&outputs["best_epoch"])
    )
}

fn reasons(data: &Value) -> String {
    let reasons = data["reasons"]
        .as_array()
        .map(|all| all.iter().map(text).collect::<Vec<_>>().join("; "));
    reasons.unwrap_or_else(|| "no reasons given".to_owned())
}

fn count(value: &Value) -> String {
    value
        .as_u64()
        .map_or_else(|| text(value), |count| HumanCount(count).to_string())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
