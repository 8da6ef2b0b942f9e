//! What a model and its INT8 variant say about the same rows.

use crate::inference::element::Element;
use crate::inference::tensors::Elements;
use crate::jobs::session::{JobError, Session};
use crate::predict::mapping::Mapping;
use crate::predict::parquet_files;
use crate::predict::scorer::Scorer;
use crate::predict::table::Table;
use crate::train::metrics;

use super::config::QuantiseConfig;

/// Rows of one run.
const BATCH: usize = 1024;

/// How far the variant is from the reference.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Rows that both were asked about.
    pub rows: usize,
    /// The largest difference of an output.
    pub largest: f64,
    /// The mean of all differences.
    pub mean: f64,
    /// The AUC of the reference and of the variant, where labels are known.
    pub auc: Option<[f64; 2]>,
}

impl Comparison {
    /// Whether no output is further away than allowed; else what was found.
    pub fn within(&self, tolerance: f64) -> Result<(), String> {
        if self.largest <= tolerance {
            return Ok(());
        }
        let Self {
            rows, largest, mean, ..
        } = self;
        Err(format!(
            "the INT8 variant's outputs are up to {largest} from the model's ({rows} rows, {mean} in the mean), \
             allowed by `tolerance` are {tolerance}"
        ))
    }
}

/// Differences on their way to a comparison.
#[derive(Default)]
struct Tally {
    rows: usize,
    largest: f64,
    sum: f64,
    count: usize,
    /// Of each row what the reference and the variant say, and what is true; only where labels are known.
    scores: [Vec<f32>; 2],
    labels: Vec<f32>,
}

/// Asks both about the rows of the sample.
pub fn compare(
    reference: &Scorer,
    variant: &Scorer,
    config: &QuantiseConfig,
    session: &dyn Session,
) -> Result<Comparison, JobError> {
    let keep: Vec<String> = config.label.iter().cloned().collect();
    let mapping = Mapping::new(&config.inputs, None, &keep, reference.signature());
    let mut tally = Tally::default();
    for key in parquet_files(session, &config.sample)? {
        if tally.rows >= config.rows {
            break;
        }
        let bucket = &config.sample.bucket;
        let table = Table::open(session.download(bucket, &key)?);
        let seen = table.and_then(|table| tally.see(&table, &mapping, [reference, variant], config, session));
        seen.map_err(|reason| JobError::Invalid(format!("`{bucket}/{key}` {reason}")))?;
        if session.abandoned() {
            return Err(JobError::Abandoned);
        }
    }
    tally.comparison()
}

impl Tally {
    /// Takes in the rows of a file, until there are enough.
    fn see(
        &mut self,
        table: &Table,
        mapping: &Mapping,
        models: [&Scorer; 2],
        config: &QuantiseConfig,
        session: &dyn Session,
    ) -> Result<(), String> {
        let layout = mapping.layout(table)?;
        let mut pieces = table.pieces(&layout.columns);
        while let Some(piece) = pieces.read()? {
            for from in (0..piece.rows).step_by(BATCH) {
                let to = piece
                    .rows
                    .min(from + BATCH)
                    .min(from + config.rows.saturating_sub(self.rows));
                if to == from || session.abandoned() {
                    return Ok(());
                }
                let inputs = mapping.inputs(&layout, &piece, from..to)?;
                let said = [models[0].run(&inputs)?, models[1].run(&inputs)?];
                self.add(models[0], &said)?;
                self.rows += to - from;
                if let Some(labels) = layout.kept.first().and_then(|&at| piece.columns.get(at)) {
                    self.label(labels.values.numbers(from..to), to - from)?;
                    self.score(models[0], &said, to - from)?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, reference: &Scorer, [one, other]: &[Vec<Elements>; 2]) -> Result<(), String> {
        let ports = &reference.signature().outputs;
        for ((port, one), other) in ports.iter().zip(one).zip(other) {
            let (one, other) = (floats(port.element, one), floats(port.element, other));
            if one.len() != other.len() {
                return Err(format!(
                    "has another number of elements in output `{}` of the variant",
                    port.name
                ));
            }
            for (one, other) in one.iter().zip(&other) {
                let difference = (one - other).abs();
                // `max` would pass over what is no number, which is never taken back.
                if difference > self.largest || difference.is_nan() {
                    self.largest = difference;
                }
                self.sum += difference;
                self.count += 1;
            }
        }
        Ok(())
    }

    fn label(&mut self, labels: Vec<f64>, rows: usize) -> Result<(), String> {
        let odd = labels.iter().find(|&&label| label != 0.0 && label != 1.0);
        if let Some(found) = odd {
            return Err(format!("has {found} in its label, allowed are 0 and 1"));
        }
        if labels.len() != rows {
            return Err("has no number in its label, or a null; allowed are 0 and 1".to_owned());
        }
        self.labels.extend(labels.into_iter().map(|label| label as f32));
        Ok(())
    }

    /// Of each row the last of the first output's floats: the score, or the chance of the last class.
    fn score(&mut self, reference: &Scorer, said: &[Vec<Elements>; 2], rows: usize) -> Result<(), String> {
        let ports = &reference.signature().outputs;
        let first = ports.iter().position(|port| is_float(port.element));
        for (scores, said) in self.scores.iter_mut().zip(said) {
            let values = first.and_then(|at| Some(floats(ports.get(at)?.element, said.get(at)?)));
            let values = values.unwrap_or_default();
            let width = values.len() / rows.max(1);
            if width == 0 {
                return Err("gets no score from the model: it has no output of floats".to_owned());
            }
            let last = values.iter().skip(width - 1).step_by(width);
            scores.extend(last.map(|&score| score as f32));
        }
        Ok(())
    }

    fn comparison(self) -> Result<Comparison, JobError> {
        if self.count == 0 {
            let reason = "the sample has no rows, or the model no outputs of floats, to compare";
            return Err(JobError::Invalid(reason.to_owned()));
        }
        let [reference, variant] = &self.scores;
        let auc = metrics::auc(reference, &self.labels).zip(metrics::auc(variant, &self.labels));
        Ok(Comparison {
            rows: self.rows,
            largest: self.largest,
            mean: self.sum / self.count as f64,
            auc: auc.map(<[f64; 2]>::from),
        })
    }
}

fn is_float(element: Element) -> bool {
    matches!(element, Element::Fp32 | Element::Fp64)
}

/// The elements of a tensor of floats; none of any other.
fn floats(element: Element, of: &Elements) -> Vec<f64> {
    let singles = || {
        of.raw
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
    };
    match element {
        Element::Fp32 => singles().collect(),
        Element::Fp64 => of
            .raw
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f64::from_le_bytes(*bytes))
            .collect(),
        _ => Vec::new(),
    }
}
