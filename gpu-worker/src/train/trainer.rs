//! The training loop: seeded epochs, early stopping on validation AUC, checkpoints, the best weights at the end.

use std::time::Duration;

use burn::module::{AutodiffModule, Module};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, AdamWConfig, GradientsParams, Optimizer};
use burn::record::{BinBytesRecorder, FullPrecisionSettings, Recorder};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use serde_json::json;

use super::checkpoint::{Best, Cursor, Restored, Scores, Snapshot, restore};
use super::config::TrainConfig;
use super::dataset::Split;
use super::metrics;
use super::pace::{Pace, Timer};
use super::rng::Rng;
use super::table::EmbeddingTable;
use super::two_tower::{TwoTower, bce_with_logits};
use super::vocabulary::Vocabulary;
use crate::jobs::session::{JobError, Progress, Session};

/// Rows scored at a time outside training.
const SCORE_BATCH: usize = 4096;

type Recorded = BinBytesRecorder<FullPrecisionSettings>;

/// A split whose ids are embedding rows.
#[derive(Debug)]
pub struct Encoded {
    /// Rows of the user table.
    pub users: Vec<u32>,
    /// Rows of the item table.
    pub items: Vec<u32>,
    /// Labels and normalised features.
    pub split: Split,
}

impl Encoded {
    /// Looks up the ids of `split`.
    pub fn new(split: Split, users: &Vocabulary, items: &Vocabulary) -> Self {
        Self {
            users: users.encode(&split.user_id),
            items: items.encode(&split.item_id),
            split,
        }
    }
}

/// A training run.
pub struct Trainer<B: AutodiffBackend> {
    config: TrainConfig,
    fingerprint: String,
    device: B::Device,
    model: TwoTower<B>,
    optimiser: OptimizerAdaptor<AdamW, TwoTower<B>, B>,
    users: EmbeddingTable,
    items: EmbeddingTable,
    widths: [usize; 2],
    cursor: Cursor,
    best: Option<Best>,
    pace: Pace,
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
}

/// One step's rows: table rows after id dropout, and both towers' inputs.
struct Batch {
    rows: [Vec<u32>; 2],
    inputs: [Vec<f32>; 2],
    labels: Vec<f32>,
}

impl<B: AutodiffBackend> Trainer<B> {
    /// A fresh run over tables of `rows` embeddings and `features` features a side.
    pub fn new(
        config: TrainConfig,
        digest: &str,
        rows: [usize; 2],
        features: [usize; 2],
        device: B::Device,
    ) -> Self {
        let (dim, seed, deviation) = (config.embedding_dim, config.seed, config.embedding_init);
        let widths = features.map(|features| features + dim);
        let fingerprint = format!("{digest} {} {}", std::any::type_name::<B>(), config.parameters());
        Self {
            model: TwoTower::new(widths, &config.towers, seed, &device),
            optimiser: AdamWConfig::new().with_weight_decay(config.weight_decay).init(),
            users: EmbeddingTable::new(rows[0], dim, deviation, seed, 0),
            items: EmbeddingTable::new(rows[1], dim, deviation, seed, 1),
            cursor: Cursor::default(),
            best: None,
            pace: Pace::Time(Duration::from_secs(5)),
            config,
            fingerprint,
            device,
            widths,
        }
    }

    /// Checkpoints at another pace than every five seconds.
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Goes on from what an earlier attempt left, where it left something of use.
    pub fn resume(&mut self, session: &dyn Session) -> Result<(), JobError> {
        let Some(content) = session.load_checkpoint()? else {
            return Ok(());
        };
        let (mut users, mut items) = (self.users.clone(), self.items.clone());
        match restore(&content, &self.fingerprint, &mut users, &mut items).and_then(|found| self.load(found))
        {
            Ok(()) => {
                (self.users, self.items) = (users, items);
                tracing::info!(
                    epoch = self.cursor.epoch,
                    step = self.cursor.step,
                    "resumed from a checkpoint"
                );
            }
            Err(reason) => tracing::warn!("the checkpoint is not used, training starts anew: {reason}"),
        }
        Ok(())
    }

    fn load(&mut self, found: Restored) -> Result<(), String> {
        let towers = Recorder::<B>::load(&Recorded::default(), found.towers, &self.device)
            .map_err(|e| e.to_string())?;
        let state = Recorder::<B>::load(&Recorded::default(), found.optimiser, &self.device)
            .map_err(|e| e.to_string())?;
        self.model = self.model.clone().load_record(towers);
        self.optimiser = self.optimiser.clone().load_record(state);
        self.cursor = found.cursor;
        self.best = found.best;
        Ok(())
    }

    /// Trains to the end and puts the best weights back.
    pub fn run(
        &mut self,
        train: &Encoded,
        validation: &Encoded,
        session: &dyn Session,
    ) -> Result<Measured, JobError> {
        while self.cursor.epoch < self.config.max_epochs && self.cursor.stale < self.config.patience {
            self.epoch(train, validation, session)?;
        }
        let best = self
            .best
            .take()
            .ok_or_else(|| JobError::Invalid("no epoch was run".to_owned()))?;
        self.restore_best(&best)?;
        let [validation_auc, validation_log_loss, train_log_loss] = best.scores.bits.map(f64::from_bits);
        Ok(Measured {
            epochs: self.cursor.epoch,
            best_epoch: best.scores.epoch,
            validation_auc,
            validation_log_loss,
            train_log_loss,
            seconds: self.cursor.seconds,
        })
    }

    fn epoch(
        &mut self,
        train: &Encoded,
        validation: &Encoded,
        session: &dyn Session,
    ) -> Result<(), JobError> {
        let mut order: Vec<u32> = (0..train.split.len() as u32).collect();
        Rng::derive(&[self.config.seed, 0x6f72_6465, self.cursor.epoch as u64]).shuffle(&mut order);
        let batches: Vec<&[u32]> = order.chunks(self.config.batch_size).collect();
        let mut timer = Timer::start(self.pace, self.cursor.seconds);
        for rows in batches.iter().skip(self.cursor.step) {
            if session.abandoned() {
                return Err(JobError::Abandoned);
            }
            let loss = self.step(train, rows)?;
            let sum = f64::from_bits(self.cursor.loss_bits) + loss * rows.len() as f64;
            self.cursor.loss_bits = sum.to_bits();
            self.cursor.step += 1;
            self.cursor.seconds = timer.seconds();
            if timer.report_due() {
                self.report(batches.len(), loss, session);
            }
            if self.cursor.step < batches.len() && timer.checkpoint_due() {
                timer.checkpointed(|| self.save(session))?;
            }
        }
        self.finish_epoch(train.split.len(), validation)?;
        self.cursor.seconds = timer.seconds();
        self.report(batches.len(), f64::NAN, session);
        self.save(session)
    }

    fn finish_epoch(&mut self, rows: usize, validation: &Encoded) -> Result<(), JobError> {
        let logits = self.logits(validation);
        let labels = &validation.split.label;
        let loss = metrics::log_loss(&logits, labels);
        let (Some(auc), true) = (metrics::auc(&logits, labels), loss.is_finite()) else {
            return Err(JobError::Invalid(format!(
                "the validation loss of epoch {} is {loss}",
                self.cursor.epoch + 1
            )));
        };
        let train_loss = f64::from_bits(self.cursor.loss_bits) / rows.max(1) as f64;
        let better = self
            .best
            .as_ref()
            .is_none_or(|best| auc > f64::from_bits(best.scores.bits[0]));
        self.cursor.epoch += 1;
        self.cursor.stale = if better { 0 } else { self.cursor.stale + 1 };
        (self.cursor.step, self.cursor.loss_bits) = (0, 0);
        tracing::info!(epoch = self.cursor.epoch, auc, loss, train_loss, "epoch done");
        if better {
            let scores = Scores {
                epoch: self.cursor.epoch,
                bits: [auc, loss, train_loss].map(f64::to_bits),
            };
            let (users, items) = (self.users.weights().to_vec(), self.items.weights().to_vec());
            self.best = Some(Best {
                scores,
                towers: self.record_towers()?,
                users,
                items,
            });
        }
        Ok(())
    }

    /// One optimiser step on `rows`; the mean loss before it.
    fn step(&mut self, train: &Encoded, rows: &[u32]) -> Result<f64, JobError> {
        let mut rng = Rng::derive(&[
            self.config.seed,
            0x7374_6570,
            self.cursor.epoch as u64,
            self.cursor.step as u64,
        ]);
        let batch = self.gather(train, rows, &mut rng);
        let size = rows.len();
        let [user, item] = [0, 1].map(|side| {
            let data = TensorData::new(batch.inputs[side].clone(), [size, self.widths[side]]);
            Tensor::<B, 2>::from_data(data, &self.device).require_grad()
        });
        let masks = [self.masks(size, &mut rng), self.masks(size, &mut rng)];
        let labels = Tensor::<B, 1>::from_data(TensorData::new(batch.labels, [size]), &self.device);
        let logits = self
            .model
            .forward([user.clone(), item.clone()], [&masks[0], &masks[1]]);
        let loss = bce_with_logits(logits, labels);
        let value = f64::from(numbers(loss.clone().inner()).first().copied().unwrap_or(f32::NAN));
        if !value.is_finite() {
            let (epoch, step) = (self.cursor.epoch + 1, self.cursor.step + 1);
            return Err(JobError::Invalid(format!(
                "the loss is {value} in step {step} of epoch {epoch}"
            )));
        }
        let gradients = loss.backward();
        let slopes = [user, item].map(|input| input.grad(&gradients).map(numbers).unwrap_or_default());
        let (rate, decay) = (self.config.learning_rate as f32, self.config.embedding_decay);
        let [user_rows, item_rows] = &batch.rows;
        self.users
            .update(user_rows, &slopes[0], self.widths[0], rate, decay);
        self.items
            .update(item_rows, &slopes[1], self.widths[1], rate, decay);
        let gradients = GradientsParams::from_grads(gradients, &self.model);
        self.model = self
            .optimiser
            .step(self.config.learning_rate, self.model.clone(), gradients);
        Ok(value)
    }

    fn gather(&self, train: &Encoded, rows: &[u32], rng: &mut Rng) -> Batch {
        let mut pick = |table: &[u32]| -> Vec<u32> {
            let keep = |row: &u32, rng: &mut Rng| rng.uniform() >= self.config.id_dropout || *row == 0;
            rows.iter()
                .map(|&at| table[at as usize])
                .map(|row| if keep(&row, rng) { row } else { 0 })
                .collect()
        };
        let (users, items) = (pick(&train.users), pick(&train.items));
        Batch {
            inputs: [
                inputs(
                    &self.users,
                    &users,
                    &train.split.user,
                    self.widths[0],
                    rows.iter().map(|&at| at as usize),
                ),
                inputs(
                    &self.items,
                    &items,
                    &train.split.item,
                    self.widths[1],
                    rows.iter().map(|&at| at as usize),
                ),
            ],
            labels: rows.iter().map(|&at| train.split.label[at as usize]).collect(),
            rows: [users, items],
        }
    }

    /// Dropout masks of one tower's hidden layers: 0, or what keeps the expectation.
    fn masks(&self, rows: usize, rng: &mut Rng) -> Vec<Tensor<B, 2>> {
        let hidden = self
            .config
            .towers
            .split_last()
            .map_or(&[][..], |(_, hidden)| hidden);
        let hidden = if self.config.dropout > 0.0 { hidden } else { &[] };
        let keep = 1.0 / (1.0 - self.config.dropout);
        let threshold = (self.config.dropout * 65_536.0) as u64;
        let mut draw = |count: usize| -> Vec<f32> {
            let words = (0..count.div_ceil(4)).map(|_| rng.next_u64());
            let parts = words.flat_map(|word| [word, word >> 16, word >> 32, word >> 48]);
            parts
                .take(count)
                .map(|part| if part & 0xffff < threshold { 0.0 } else { keep })
                .collect()
        };
        hidden
            .iter()
            .map(|&width| Tensor::from_data(TensorData::new(draw(rows * width), [rows, width]), &self.device))
            .collect()
    }

    /// Scores rows with the weights as they are, without dropout.
    pub fn logits(&self, data: &Encoded) -> Vec<f32> {
        let model = self.model.valid();
        let rows: Vec<usize> = (0..data.split.len()).collect();
        let score = |rows: &[usize]| {
            let pick = |table: &[u32]| -> Vec<u32> { rows.iter().map(|&at| table[at]).collect() };
            let users = inputs(
                &self.users,
                &pick(&data.users),
                &data.split.user,
                self.widths[0],
                rows.iter().copied(),
            );
            let items = inputs(
                &self.items,
                &pick(&data.items),
                &data.split.item,
                self.widths[1],
                rows.iter().copied(),
            );
            let tensors = [(users, self.widths[0]), (items, self.widths[1])].map(|(values, width)| {
                Tensor::<B::InnerBackend, 2>::from_data(
                    TensorData::new(values, [rows.len(), width]),
                    &self.device,
                )
            });
            numbers(model.forward(tensors, [&[], &[]]))
        };
        rows.chunks(SCORE_BATCH).flat_map(score).collect()
    }

    fn record_towers(&self) -> Result<Vec<u8>, JobError> {
        Recorder::<B>::record(&Recorded::default(), self.model.clone().into_record(), ()).map_err(transient)
    }

    fn restore_best(&mut self, best: &Best) -> Result<(), JobError> {
        let towers = Recorder::<B>::load(&Recorded::default(), best.towers.clone(), &self.device)
            .map_err(transient)?;
        self.model = self.model.clone().load_record(towers);
        self.users.set_weights(&best.users);
        self.items.set_weights(&best.items);
        Ok(())
    }

    fn save(&self, session: &dyn Session) -> Result<(), JobError> {
        let optimiser =
            Recorder::<B>::record(&Recorded::default(), self.optimiser.to_record(), ()).map_err(transient)?;
        let snapshot = Snapshot {
            fingerprint: &self.fingerprint,
            cursor: &self.cursor,
            towers: self.record_towers()?,
            optimiser,
            users: &self.users,
            items: &self.items,
            best: self.best.as_ref(),
        };
        match session.save_checkpoint(snapshot.encode().into()) {
            Err(JobError::Invalid(reason) | JobError::Transient(reason)) => {
                // Only a later attempt would miss it.
                tracing::warn!("training goes on without a checkpoint: {reason}");
                Ok(())
            }
            other => other,
        }
    }

    fn report(&self, steps: usize, loss: f64, session: &dyn Session) {
        let (epoch, last) = (self.cursor.epoch, self.config.max_epochs);
        let mut metrics = serde_json::Map::new();
        if loss.is_finite() {
            metrics.insert("loss".to_owned(), json!(loss));
        }
        let mut message = format!("epoch {} of at most {last}", (epoch + 1).min(last));
        if let Some(best) = &self.best {
            let auc = f64::from_bits(best.scores.bits[0]);
            metrics.insert("validation_auc".to_owned(), json!(auc));
            message.push_str(&format!(
                ", best validation AUC {auc:.4} in epoch {}",
                best.scores.epoch
            ));
        }
        session.report(Progress {
            done: (epoch * steps + self.cursor.step) as u64,
            total: (last * steps) as u64,
            unit: "steps",
            message,
            metrics,
        });
    }

    /// The towers.
    pub fn model(&self) -> &TwoTower<B> {
        &self.model
    }

    /// User and item embeddings.
    pub fn tables(&self) -> [&EmbeddingTable; 2] {
        [&self.users, &self.items]
    }
}

/// A tower's input: each row's embedding, then its features.
fn inputs(
    table: &EmbeddingTable,
    rows: &[u32],
    features: &[f32],
    width: usize,
    at: impl Iterator<Item = usize>,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len() * width);
    let width = width - table.dim();
    for (&row, at) in rows.iter().zip(at) {
        out.extend_from_slice(table.row(row));
        out.extend_from_slice(&features[at * width..(at + 1) * width]);
    }
    out
}

/// The numbers of a tensor, in row order.
pub fn numbers<B: burn::tensor::backend::Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap_or_default()
}

fn transient(error: impl std::fmt::Display) -> JobError {
    JobError::Transient(format!("cannot record the training state: {error}"))
}
