//! Trees that are grown one after another, and what they say together.

use super::bins::Bins;
use super::config::TreesConfig;
use super::grow::{Node, Rule, Slopes, Tree, grow};
use crate::jobs::session::{JobError, Session};
use crate::onnx::trees::TreeEnsemble;
use crate::train::epochs::{Learner, Place, State, resumed};
use crate::train::rng::Rng;
use crate::train::sealed::{Reader, Writer};
use crate::train::tabular::Rows;

const MAGIC: &[u8] = b"tidegate trees checkpoint 1\n";
/// Keeps the logit of a forest that is certain within bounds.
const CERTAIN: f32 = 1e-6;

/// A training run.
pub struct Ensemble {
    config: TreesConfig,
    rule: Rule,
    train: Rows,
    validation: Rows,
    bins: Bins,
    /// How much each row of the training split counts.
    weights: Vec<f32>,
    /// What a boosted sum begins with.
    base: f32,
    trees: Vec<Tree>,
    /// The sum of the trees for each row of either split.
    sums: [Vec<f32>; 2],
    /// Trees up to the best one.
    best: usize,
}

impl Ensemble {
    /// A fresh run over rows as they were read.
    pub fn new(config: TreesConfig, train: Rows, validation: Rows) -> Self {
        let classes = config.source.class_weights.of(&train.labels);
        let weights: Vec<f32> = train
            .labels
            .iter()
            .map(|&label| classes[usize::from(label > 0.5)])
            .collect();
        let share = |of: fn(f32) -> f32| -> f64 {
            train
                .labels
                .iter()
                .zip(&weights)
                .map(|(&label, &weight)| f64::from(of(label) * weight))
                .sum()
        };
        let odds = share(|label| label) / share(|label| 1.0 - label);
        let base = if config.forest { 0.0 } else { odds.ln() as f32 };
        let features = (train.width as f64 * config.features_per_split).round() as usize;
        Self {
            rule: Rule {
                max_depth: config.max_depth,
                min_leaf: config.min_leaf,
                l2: if config.forest { 0.0 } else { config.l2 },
                rate: if config.forest { 1.0 } else { config.learning_rate },
                features: features.max(1),
            },
            bins: Bins::fit(&train),
            sums: [vec![base; train.len()], vec![base; validation.len()]],
            weights,
            base,
            trees: Vec::new(),
            best: 0,
            train,
            validation,
            config,
        }
    }

    /// Where an earlier attempt left off, or the beginning.
    pub fn resume(&mut self, session: &dyn Session) -> Result<State, JobError> {
        let fingerprint = self.fingerprint();
        resumed(session, |content| {
            let mut sections = Reader::open(content, MAGIC)?;
            let state = State::read(sections.section()?, &fingerprint)?;
            let trees = (0..state.epoch).map(|_| sections.section().and_then(read_tree));
            let trees: Vec<Tree> = trees.collect::<Result<_, _>>()?;
            trees.into_iter().for_each(|tree| self.add(tree));
            self.best = state.best.as_ref().map_or(0, |best| best.epoch);
            Ok(state)
        })
    }

    /// Names the data and the parameters; a checkpoint of others is not taken up.
    fn fingerprint(&self) -> String {
        let (rows, features) = (self.train.len(), &self.config.source.features);
        let data = self.bins.cuts.iter().flatten().map(|cut| cut.to_bits());
        let data = data.fold(0u32, |sum, bits| sum.rotate_left(5) ^ bits);
        format!(
            "{rows} {features:?} {data:08x} {} {}",
            self.config.forest,
            self.config.parameters()
        )
    }

    /// The trained model.
    pub fn exported(&self) -> TreeEnsemble<'_> {
        TreeEnsemble {
            name: &self.config.source.model,
            features: self.train.width,
            trees: &self.trees,
            base: self.base,
            average: self.config.forest,
            properties: self.config.source.properties(),
        }
    }

    /// The chance of class 1 for a row, as the exported model gives it.
    pub fn score(&self, row: &[f32]) -> f32 {
        let sum = self
            .trees
            .iter()
            .fold(self.base, |sum, tree| sum + tree.value(row));
        match self.config.forest {
            true => sum / self.trees.len().max(1) as f32,
            false => sigmoid(sum),
        }
    }

    fn add(&mut self, tree: Tree) {
        let [train, validation] = &mut self.sums;
        for (sums, rows) in [(train, &self.train), (validation, &self.validation)] {
            for (sum, row) in sums.iter_mut().zip(rows.features.chunks_exact(rows.width.max(1))) {
                *sum += tree.value(row);
            }
        }
        self.trees.push(tree);
    }

    /// Logits of either split, by the trees so far.
    fn logits(&self, split: usize) -> Vec<f32> {
        let sums = &self.sums[split];
        if !self.config.forest {
            return sums.clone();
        }
        let trees = self.trees.len().max(1) as f32;
        let logit = |sum: &f32| {
            let chance = (sum / trees).clamp(CERTAIN, 1.0 - CERTAIN);
            (chance / (1.0 - chance)).ln()
        };
        sums.iter().map(logit).collect()
    }

    /// The rows that the next tree sees.
    fn drawn(&self, rng: &mut Rng) -> Vec<u32> {
        let count = self.train.len();
        if self.config.forest {
            return (0..count).map(|_| rng.below(count) as u32).collect();
        }
        let mut rows: Vec<u32> = (0..count as u32).collect();
        if self.config.subsample < 1.0 {
            rng.shuffle(&mut rows);
            rows.truncate(((count as f64 * self.config.subsample) as usize).max(1));
            rows.sort_unstable();
        }
        rows
    }

    /// The slopes of the loss at each row; of a forest, what makes a leaf the mean of its labels.
    fn slopes(&self) -> (Vec<f32>, Vec<f32>) {
        let rows = self.train.labels.iter().zip(&self.weights).zip(&self.sums[0]);
        let slope = |((&label, &weight), &sum): ((&f32, &f32), &f32)| match self.config.forest {
            true => (-weight * label, weight),
            false => {
                let chance = sigmoid(sum);
                (
                    weight * (chance - label),
                    weight * (chance * (1.0 - chance)).max(1e-16),
                )
            }
        };
        rows.map(slope).unzip()
    }

    fn train_loss(&self) -> f64 {
        let total: f64 = self
            .logits(0)
            .iter()
            .zip(self.train.labels.iter())
            .zip(&self.weights)
            .map(|((&z, &y), &weight)| {
                f64::from(weight) * (f64::from(z.max(0.0) - z * y) + f64::from(-z.abs()).exp().ln_1p())
            })
            .sum();
        total / self.train.len().max(1) as f64
    }
}

impl Learner for Ensemble {
    fn rows(&self) -> usize {
        self.train.len()
    }

    fn validation_labels(&self) -> &[f32] {
        &self.validation.labels
    }

    fn validation_logits(&mut self) -> Vec<f32> {
        self.logits(1)
    }

    /// One more tree; which rows it sees is its own luck, not the loop's order.
    fn step(&mut self, _rows: &[u32], place: Place) -> Result<f64, JobError> {
        let mut rng = Rng::derive(&[self.config.seed, 0x7472_6565, place.epoch as u64]);
        let mut rows = self.drawn(&mut rng);
        let (gradient, curvature) = self.slopes();
        let slopes = Slopes {
            gradient: &gradient,
            curvature: &curvature,
        };
        let tree = grow(&self.bins, &mut rows, &slopes, &self.rule, &mut rng);
        self.add(tree);
        Ok(self.train_loss())
    }

    fn keep_best(&mut self) -> Result<(), JobError> {
        self.best = self.trees.len();
        Ok(())
    }

    fn restore_best(&mut self) -> Result<(), JobError> {
        self.trees.truncate(self.best);
        Ok(())
    }

    fn snapshot(&self, state: &State) -> Result<Vec<u8>, JobError> {
        let mut out = Writer::new(MAGIC);
        out.section(|out| state.write(out, &self.fingerprint()));
        for tree in self.trees.iter().take(state.epoch) {
            out.section(|out| write_tree(out, tree));
        }
        Ok(out.seal())
    }
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

fn write_tree(out: &mut Vec<u8>, tree: &Tree) {
    for node in &tree.nodes {
        let words = [
            node.feature,
            node.threshold.to_bits(),
            node.left,
            node.value.to_bits(),
        ];
        words
            .iter()
            .for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }
}

fn read_tree(bytes: &[u8]) -> Result<Tree, String> {
    let (nodes, rest) = bytes.as_chunks::<16>();
    if nodes.is_empty() || !rest.is_empty() {
        return Err("a tree is cut off".to_owned());
    }
    let node = |node: &[u8; 16]| {
        let (words, _) = node.as_chunks::<4>();
        let word = |at: usize| words.get(at).map_or(0, |word| u32::from_le_bytes(*word));
        Node {
            feature: word(0),
            threshold: f32::from_bits(word(1)),
            left: word(2),
            value: f32::from_bits(word(3)),
        }
    };
    Ok(Tree {
        nodes: nodes.iter().map(node).collect(),
    })
}
