//! What a step of two towers is, and what is kept of them.

use std::ops::Range;

use burn::module::{AutodiffModule, Module};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, AdamWConfig, Optimizer};
use burn::record::{BinBytesRecorder, FullPrecisionSettings, Recorder};
use burn::tensor::backend::AutodiffBackend;

use super::TrainingSet;
use super::checkpoint::{Best, Restored, Snapshot, restore};
use super::config::{Negatives, TrainConfig};
use super::dataset::Split;
use super::table::EmbeddingTable;
use super::towers::TwoTower;
use super::vocabulary::Vocabulary;
use crate::jobs::session::{JobError, Session};
use crate::train::column::Column;
use crate::train::epochs::{self, Learner, Measured, Place, Plan, State, resumed};
use crate::train::gang::{Gang, Part};
use crate::train::pace::Pace;
use crate::train::rng::Rng;
use crate::train::tensors::{bce_with_logits, dropout_masks, matrix, numbers, transient, vector};

/// Rows scored at a time outside training.
const SCORE_BATCH: usize = 4096;
/// What dropout draws from, apart from other luck of the same step.
const MASKS: u64 = 0x6d61_736b;

type Recorded = BinBytesRecorder<FullPrecisionSettings>;

/// A split whose ids are embedding rows.
#[derive(Debug)]
pub struct Encoded {
    /// Rows of the user table.
    pub users: Column<u32>,
    /// Rows of the item table.
    pub items: Column<u32>,
    /// Labels and normalised features.
    pub split: Split,
}

impl Encoded {
    /// Looks up the ids of `split`; the error says what could not be had.
    pub fn new(split: Split, users: &Vocabulary, items: &Vocabulary) -> Result<Self, String> {
        Ok(Self {
            users: users.encode(&split.user_id)?,
            items: items.encode(&split.item_id)?,
            split,
        })
    }
}

/// A training run.
pub struct Trainer<B: AutodiffBackend> {
    config: TrainConfig,
    fingerprint: String,
    gang: Gang<B, TwoTower<B>>,
    model: TwoTower<B>,
    optimiser: OptimizerAdaptor<AdamW, TwoTower<B>, B>,
    users: EmbeddingTable,
    items: EmbeddingTable,
    widths: [usize; 2],
    state: State,
    best: Option<Best>,
    pace: Pace,
}

/// Which rows of the split meet in a step: the user of one, the item of another, and whether that was a click.
struct Pairs {
    at: [Vec<usize>; 2],
    /// The rows of the tables that stand for them, after id dropout.
    rows: [Vec<u32>; 2],
    labels: Vec<f32>,
}

impl Pairs {
    /// Each row as it is; and where it is a click, the user with items of other rows, which are taken for passed over.
    fn of(train: &Encoded, rows: &[u32], config: &TrainConfig, rng: &mut Rng) -> Self {
        let mut users: Vec<usize> = rows.iter().map(|&at| at as usize).collect();
        let (split, whole) = (&train.split, users.clone());
        let mut items = whole.clone();
        let mut labels: Vec<f32> = whole.iter().map(|&at| split.label[at]).collect();
        let count = match config.negatives {
            Negatives::None => 0,
            Negatives::InBatch | Negatives::Sampled => config.negative_count,
        };
        for &click in whole.iter().filter(|&&at| count > 0 && split.label[at] > 0.5) {
            for _ in 0..count {
                let other = match config.negatives {
                    Negatives::InBatch => whole[rng.below(whole.len())],
                    _ => rng.below(split.len()),
                };
                if split.item_id[other] != split.item_id[click] {
                    users.push(click);
                    items.push(other);
                    labels.push(0.0);
                }
            }
        }
        let mut pick = |table: &[u32], at: &[usize]| -> Vec<u32> {
            let mut keeps = |row: u32| rng.uniform() >= config.id_dropout || row == 0;
            let rows = at.iter().map(|&at| table[at]);
            rows.map(|row| if keeps(row) { row } else { 0 }).collect()
        };
        Self {
            rows: [pick(&train.users, &users), pick(&train.items, &items)],
            at: [users, items],
            labels,
        }
    }
}

impl<B: AutodiffBackend> Trainer<B> {
    /// A fresh run over tables of `rows` embeddings and `features` features a side; of no devices, on the default one.
    pub fn new(
        config: TrainConfig,
        digest: &str,
        rows: [usize; 2],
        features: [usize; 2],
        devices: Vec<B::Device>,
    ) -> Result<Self, JobError> {
        let (dim, seed, deviation) = (config.embedding_dim, config.seed, config.embedding_init);
        let widths = features.map(|features| features + dim);
        let fingerprint = format!("{digest} {} {}", std::any::type_name::<B>(), config.parameters());
        let towers = |device: &B::Device| TwoTower::new(widths, &config.towers, seed, device);
        let gang = Gang::new(devices, towers)?;
        Ok(Self {
            model: towers(gang.first()),
            optimiser: AdamWConfig::new().with_weight_decay(config.weight_decay).init(),
            users: EmbeddingTable::new(rows[0], dim, deviation, seed, 0),
            items: EmbeddingTable::new(rows[1], dim, deviation, seed, 1),
            state: State::default(),
            best: None,
            pace: epochs::pace(),
            gang,
            config,
            fingerprint,
            widths,
        })
    }

    /// Checkpoints at another pace.
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Goes on from what an earlier attempt left, where it left something of use.
    pub fn resume(&mut self, session: &dyn Session) -> Result<(), JobError> {
        self.state = resumed(session, |content| {
            let (mut users, mut items) = (self.users.clone(), self.items.clone());
            let found = restore(content, &self.fingerprint, &mut users, &mut items)?;
            let state = self.load(found)?;
            (self.users, self.items) = (users, items);
            Ok(state)
        })?;
        Ok(())
    }

    fn load(&mut self, found: Restored) -> Result<State, String> {
        let device = self.gang.first();
        let towers =
            Recorder::<B>::load(&Recorded::default(), found.towers, device).map_err(|e| e.to_string())?;
        let state =
            Recorder::<B>::load(&Recorded::default(), found.optimiser, device).map_err(|e| e.to_string())?;
        self.model = self.model.clone().load_record(towers);
        self.optimiser = self.optimiser.clone().load_record(state);
        self.best = found.best;
        Ok(found.state)
    }

    /// Trains to the end and puts the best weights back.
    pub fn run(&mut self, set: &TrainingSet, session: &dyn Session) -> Result<Measured, JobError> {
        let plan = Plan {
            max_epochs: self.config.max_epochs,
            patience: self.config.patience,
            batch_size: self.config.batch_size,
            seed: self.config.seed,
            pace: self.pace,
            unit: "epoch",
        };
        let mut state = std::mem::take(&mut self.state);
        let mut run = Run { trainer: self, set };
        epochs::train(&mut run, &mut state, &plan, session)
    }

    /// One optimiser step on `rows`; the mean loss before it.
    fn step(&mut self, train: &Encoded, rows: &[u32], place: Place) -> f64 {
        let mut rng = Rng::derive(&[
            self.config.seed,
            0x7374_6570,
            place.epoch as u64,
            place.step as u64,
        ]);
        let pairs = Pairs::of(train, rows, &self.config, &mut rng);
        let (config, widths, tables) = (&self.config, self.widths, [&self.users, &self.items]);
        let features = [&train.split.user[..], &train.split.item[..]];
        let hidden = config.towers.split_last().map_or(&[][..], |(_, hidden)| hidden);
        let learn = |model: &TwoTower<B>, at: Range<usize>, device: &B::Device| {
            let size = at.len();
            let inputs = [0, 1].map(|side| {
                let (rows, lines) = (&pairs.rows[side][at.clone()], &pairs.at[side][at.clone()]);
                let input = inputs(
                    tables[side],
                    rows,
                    features[side],
                    widths[side],
                    lines.iter().copied(),
                );
                matrix::<B>(input, size, device).require_grad()
            });
            let masks = [0, 1].map(|side| {
                let luck = |row| {
                    Rng::derive(&[
                        config.seed,
                        MASKS,
                        place.epoch as u64,
                        place.step as u64,
                        side,
                        row,
                    ])
                };
                let masks = dropout_masks(hidden, config.dropout, at.clone(), luck);
                masks
                    .into_iter()
                    .map(|mask| matrix(mask, size, device))
                    .collect::<Vec<_>>()
            });
            let logits = model.forward(inputs.clone(), [&masks[0], &masks[1]]);
            let part = size as f32 / pairs.labels.len() as f32;
            let loss = bce_with_logits(logits, vector(pairs.labels[at].to_vec(), device)) * part;
            // Taken out, as what others hold as well would be copied number by number.
            Part::of(loss, model, |gradients| {
                inputs.map(|input| input.grad_remove(gradients).map(numbers).unwrap_or_default())
            })
        };
        let stepped = self.gang.step(&self.model, pairs.labels.len(), learn);
        if !stepped.loss.is_finite() {
            return stepped.loss;
        }
        let slopes = |side: usize| stepped.rest.iter().map(move |slopes| &slopes[side][..]);
        let (rate, decay) = (config.learning_rate as f32, config.embedding_decay);
        let (users, items) = (&mut self.users, &mut self.items);
        self.gang.both(
            || users.update(&pairs.rows[0], slopes(0), widths[0], rate, decay),
            || items.update(&pairs.rows[1], slopes(1), widths[1], rate, decay),
        );
        self.model = self
            .optimiser
            .step(self.config.learning_rate, self.model.clone(), stepped.gradients);
        stepped.loss
    }

    /// Scores rows with the weights as they are, without dropout.
    pub fn logits(&mut self, data: &Encoded) -> Vec<f32> {
        let (widths, tables) = (self.widths, [&self.users, &self.items]);
        let sides = [
            (&data.users[..], &data.split.user[..]),
            (&data.items[..], &data.split.item[..]),
        ];
        let score = |model: &TwoTower<B>, at: Range<usize>, device: &B::Device| {
            let (model, end) = (model.valid(), at.end);
            let score = |start: usize| {
                let at = start..(start + SCORE_BATCH).min(end);
                let tensors = [0, 1].map(|side| {
                    let (rows, features) = sides[side];
                    let input = inputs(
                        tables[side],
                        &rows[at.clone()],
                        features,
                        widths[side],
                        at.clone(),
                    );
                    matrix::<B::InnerBackend>(input, at.len(), device)
                });
                numbers(model.forward(tensors, [&[], &[]]))
            };
            at.step_by(SCORE_BATCH).flat_map(score).collect::<Vec<f32>>()
        };
        self.gang.each(&self.model, data.split.len(), score).concat()
    }

    fn record_towers(&self) -> Result<Vec<u8>, JobError> {
        Recorder::<B>::record(&Recorded::default(), self.model.clone().into_record(), ()).map_err(transient)
    }

    fn restore_best(&mut self) -> Result<(), JobError> {
        let Some(best) = self.best.take() else {
            return Ok(());
        };
        let device = self.gang.first();
        let towers = Recorder::<B>::load(&Recorded::default(), best.towers, device).map_err(transient)?;
        self.model = self.model.clone().load_record(towers);
        self.users.set_weights(&best.users);
        self.items.set_weights(&best.items);
        Ok(())
    }

    fn snapshot(&self, state: &State) -> Result<Vec<u8>, JobError> {
        let optimiser =
            Recorder::<B>::record(&Recorded::default(), self.optimiser.to_record(), ()).map_err(transient)?;
        let snapshot = Snapshot {
            fingerprint: &self.fingerprint,
            state,
            towers: self.record_towers()?,
            optimiser,
            users: &self.users,
            items: &self.items,
            best: self.best.as_ref(),
        };
        Ok(snapshot.encode())
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

/// A trainer with the rows that it learns from.
struct Run<'a, B: AutodiffBackend> {
    trainer: &'a mut Trainer<B>,
    set: &'a TrainingSet,
}

impl<B: AutodiffBackend> Learner for Run<'_, B> {
    fn rows(&self) -> usize {
        self.set.train.split.len()
    }

    fn validation_labels(&self) -> &[f32] {
        &self.set.validation.split.label
    }

    fn validation_logits(&mut self) -> Vec<f32> {
        self.trainer.logits(&self.set.validation)
    }

    fn step(&mut self, rows: &[u32], place: Place) -> Result<f64, JobError> {
        Ok(self.trainer.step(&self.set.train, rows, place))
    }

    fn keep_best(&mut self) -> Result<(), JobError> {
        let trainer = &mut *self.trainer;
        trainer.best = Some(Best {
            towers: trainer.record_towers()?,
            users: trainer.users.weights().to_vec(),
            items: trainer.items.weights().to_vec(),
        });
        Ok(())
    }

    fn restore_best(&mut self) -> Result<(), JobError> {
        self.trainer.restore_best()
    }

    fn snapshot(&self, state: &State) -> Result<Vec<u8>, JobError> {
        self.trainer.snapshot(state)
    }
}
