//! The loop that every trainer in epochs shares: a seeded order of rows, early stopping on validation, checkpoints, and
//! the metrics of each epoch. What a step is, and what a model is made of, is the learner's.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::metrics;
use super::pace::{Pace, Timer};
use super::rng::Rng;
use crate::jobs::session::{JobError, Progress, Session};

/// Epochs whose metrics are kept, the latest.
const HISTORY: usize = 1000;
/// Of those, what goes out with each report.
const REPORTED: usize = 100;

/// What is trained.
///
/// # Contract
///
/// A step depends on nothing but the learner's state, the rows, and its place: training that goes on from a snapshot ends
/// in the same bits as training that never stopped.
pub trait Learner {
    /// Rows of the training split.
    fn rows(&self) -> usize;
    /// Labels of the validation split, 0 or 1.
    fn validation_labels(&self) -> &[f32];
    /// Logits of the validation split, with the weights as they are.
    fn validation_logits(&mut self) -> Vec<f32>;
    /// One optimiser step on these rows; the mean loss before it.
    fn step(&mut self, rows: &[u32], place: Place) -> Result<f64, JobError>;
    /// Remembers the weights as the best so far.
    fn keep_best(&mut self) -> Result<(), JobError>;
    /// Puts the best weights back.
    fn restore_best(&mut self) -> Result<(), JobError>;
    /// All that a later attempt needs, with the state of the loop.
    fn snapshot(&self, state: &State) -> Result<Vec<u8>, JobError>;
}

/// Where a step stands; both count from 0.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The epoch.
    pub epoch: usize,
    /// The step in it.
    pub step: usize,
}

/// How long to train, and in which steps.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Most epochs.
    pub max_epochs: usize,
    /// Epochs without a better validation AUC before training stops.
    pub patience: usize,
    /// Rows in a step.
    pub batch_size: usize,
    /// What the order of rows comes from.
    pub seed: u64,
    /// When to checkpoint.
    pub pace: Pace,
    /// What an epoch is called.
    pub unit: &'static str,
}

/// Where training stands. Floating point numbers are kept as bits: what is read back is what was written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The running epoch, from 0.
    pub epoch: usize,
    /// Steps done in it.
    pub step: usize,
    /// Bits of the sum of the epoch's row losses so far.
    pub loss_bits: u64,
    /// Epochs since the best one.
    pub stale: usize,
    /// Seconds spent in earlier attempts and this one; informational.
    pub seconds: f64,
    /// What the best epoch measured.
    pub best: Option<Scores>,
    /// What the latest epochs measured.
    pub history: Vec<Scores>,
}

/// What an epoch measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Bits of the validation AUC, the validation log loss and the training loss.
    pub bits: [u64; 3],
}

/// A state beside the name of the data and parameters that it is of.
#[derive(Serialize, Deserialize)]
struct Header<'a> {
    fingerprint: std::borrow::Cow<'a, str>,
    state: std::borrow::Cow<'a, State>,
}

impl State {
    /// Writes it beside the name of what it is of.
    pub fn write(&self, out: &mut Vec<u8>, fingerprint: &str) {
        let header = Header {
            fingerprint: fingerprint.into(),
            state: std::borrow::Cow::Borrowed(self),
        };
        out.extend(serde_json::to_vec(&header).unwrap_or_default());
    }

    /// Reads it back, if it is of the same.
    pub fn read(bytes: &[u8], fingerprint: &str) -> Result<Self, String> {
        let header: Header<'_> =
            serde_json::from_slice(bytes).map_err(|error| format!("its header: {error}"))?;
        match header.fingerprint == fingerprint {
            true => Ok(header.state.into_owned()),
            false => Err(format!(
                "it is of `{}`, this job is `{fingerprint}`",
                header.fingerprint
            )),
        }
    }
}

/// Where an earlier attempt left off, as `restore` reads its checkpoint; else the beginning.
pub fn resumed(
    session: &dyn Session,
    restore: impl FnOnce(&[u8]) -> Result<State, String>,
) -> Result<State, JobError> {
    let Some(content) = session.load_checkpoint()? else {
        return Ok(State::default());
    };
    match restore(&content) {
        Ok(state) => {
            tracing::info!(
                epoch = state.epoch,
                step = state.step,
                "resumed from a checkpoint"
            );
            Ok(state)
        }
        Err(reason) => {
            tracing::warn!("the checkpoint is not used, training starts anew: {reason}");
            Ok(State::default())
        }
    }
}

impl Scores {
    fn auc(&self) -> f64 {
        f64::from_bits(self.bits[0])
    }

    fn shown(&self) -> Value {
        let [auc, loss, train] = self.bits.map(f64::from_bits);
        json!({ "epoch": self.epoch, "train_log_loss": train, "validation_auc": auc, "validation_log_loss": loss })
    }
}

/// What a finished run measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Epochs run.
    pub epochs: usize,
    /// The best of them, from 1.
    pub best_epoch: usize,
    /// Area under the ROC curve on the validation split.
    pub validation_auc: f64,
    /// Log loss on the validation split.
    pub validation_log_loss: f64,
    /// Mean training loss of the best epoch.
    pub train_log_loss: f64,
    /// Seconds of all attempts.
    pub seconds: f64,
    /// The latest epochs, each with its metrics.
    pub history: Vec<Value>,
}

impl Measured {
    /// What a job tells of its end, with what was measured.
    pub fn add_to(self, mut outputs: Value) -> Value {
        let measured = json!({
            "metrics": {
                "validation": {"auc": self.validation_auc, "log_loss": self.validation_log_loss},
                "train": {"log_loss": self.train_log_loss},
            },
            "history": self.history,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
        });
        if let (Some(outputs), Value::Object(measured)) = (outputs.as_object_mut(), measured) {
            outputs.extend(measured);
        }
        outputs
    }
}

/// Trains to the end and puts the best weights back.
pub fn train(
    learner: &mut impl Learner,
    state: &mut State,
    plan: &Plan,
    session: &dyn Session,
) -> Result<Measured, JobError> {
    let mut timer = Timer::start(plan.pace, state.seconds);
    while state.epoch < plan.max_epochs && state.stale < plan.patience {
        epoch(learner, state, plan, &mut timer, session)?;
    }
    let best = state.best.clone();
    let best = best.ok_or_else(|| JobError::Invalid("no epoch was run".to_owned()))?;
    learner.restore_best()?;
    let [validation_auc, validation_log_loss, train_log_loss] = best.bits.map(f64::from_bits);
    Ok(Measured {
        epochs: state.epoch,
        best_epoch: best.epoch,
        validation_auc,
        validation_log_loss,
        train_log_loss,
        seconds: state.seconds,
        history: state.history.iter().map(Scores::shown).collect(),
    })
}

fn epoch(
    learner: &mut impl Learner,
    state: &mut State,
    plan: &Plan,
    timer: &mut Timer,
    session: &dyn Session,
) -> Result<(), JobError> {
    let mut order: Vec<u32> = (0..learner.rows() as u32).collect();
    Rng::derive(&[plan.seed, 0x6f72_6465, state.epoch as u64]).shuffle(&mut order);
    let batches: Vec<&[u32]> = order.chunks(plan.batch_size).collect();
    // Where an epoch is a single step, it is nothing more than that.
    let several = batches.len() > 1;
    for rows in batches.iter().skip(state.step) {
        if session.abandoned() {
            return Err(JobError::Abandoned);
        }
        let loss = step(learner, rows, state)?;
        state.seconds = timer.seconds();
        if several && timer.report_due() {
            report(state, plan, batches.len(), Some(loss), session);
        }
        if state.step < batches.len() && timer.checkpoint_due() {
            timer.checkpointed(|| save(learner, state, session))?;
        }
    }
    finish(learner, state)?;
    state.seconds = timer.seconds();
    if several || timer.report_due() {
        report(state, plan, batches.len(), None, session);
    }
    if several || timer.checkpoint_due() {
        timer.checkpointed(|| save(learner, state, session))?;
    }
    Ok(())
}

fn step(learner: &mut impl Learner, rows: &[u32], state: &mut State) -> Result<f64, JobError> {
    let place = Place {
        epoch: state.epoch,
        step: state.step,
    };
    let loss = learner.step(rows, place)?;
    if !loss.is_finite() {
        return Err(JobError::Diverged {
            loss,
            epoch: place.epoch + 1,
            step: place.step + 1,
        });
    }
    let sum = f64::from_bits(state.loss_bits) + loss * rows.len() as f64;
    state.loss_bits = sum.to_bits();
    state.step += 1;
    Ok(loss)
}

fn finish(learner: &mut impl Learner, state: &mut State) -> Result<(), JobError> {
    let logits = learner.validation_logits();
    let labels = learner.validation_labels();
    let loss = metrics::log_loss(&logits, labels);
    let (Some(auc), true) = (metrics::auc(&logits, labels), loss.is_finite()) else {
        let epoch = state.epoch + 1;
        return Err(JobError::Invalid(format!(
            "the validation loss of epoch {epoch} is {loss}"
        )));
    };
    let train_loss = f64::from_bits(state.loss_bits) / learner.rows().max(1) as f64;
    let better = state.best.as_ref().is_none_or(|best| auc > best.auc());
    state.epoch += 1;
    state.stale = if better { 0 } else { state.stale + 1 };
    (state.step, state.loss_bits) = (0, 0);
    tracing::info!(epoch = state.epoch, auc, loss, train_loss, "epoch done");
    let scores = Scores {
        epoch: state.epoch,
        bits: [auc, loss, train_loss].map(f64::to_bits),
    };
    if state.history.len() >= HISTORY {
        state.history.remove(0);
    }
    state.history.push(scores.clone());
    if better {
        state.best = Some(scores);
        learner.keep_best()?;
    }
    Ok(())
}

fn save(learner: &impl Learner, state: &State, session: &dyn Session) -> Result<(), JobError> {
    match session.save_checkpoint(learner.snapshot(state)?.into()) {
        Err(JobError::Invalid(reason) | JobError::Transient(reason)) => {
            // Only a later attempt would miss it.
            tracing::warn!("training goes on without a checkpoint: {reason}");
            Ok(())
        }
        other => other,
    }
}

fn report(state: &State, plan: &Plan, steps: usize, loss: Option<f64>, session: &dyn Session) {
    let (epoch, last) = (state.epoch, plan.max_epochs);
    let mut metrics = Map::new();
    metrics.extend(loss.map(|loss| ("loss".to_owned(), json!(loss))));
    let unit = plan.unit;
    let mut message = format!("{unit} {} of at most {last}", (epoch + 1).min(last));
    if let Some(best) = &state.best {
        metrics.insert("validation_auc".to_owned(), json!(best.auc()));
        message.push_str(&format!(
            ", best validation AUC {:.4} in {unit} {}",
            best.auc(),
            best.epoch
        ));
    }
    let latest = state.history.len().saturating_sub(REPORTED);
    session.report(Progress {
        done: (epoch * steps + state.step) as u64,
        total: (last * steps) as u64,
        unit: "steps",
        message,
        metrics,
        history: state.history[latest..].iter().map(Scores::shown).collect(),
    });
}

/// What a trainer checkpoints by: `TIDEGATE_CHECKPOINT_MS` sets another time than five seconds.
pub fn pace() -> Pace {
    let given = std::env::var("TIDEGATE_CHECKPOINT_MS")
        .ok()
        .and_then(|text| text.parse().ok());
    Pace::Time(Duration::from_millis(given.unwrap_or(5_000)))
}
