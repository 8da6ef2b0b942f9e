//! What a step of the network is, and what is kept of it.

use std::ops::Range;

use burn::module::{AutodiffModule, Module};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, AdamWConfig, Optimizer};
use burn::record::{BinBytesRecorder, FullPrecisionSettings, Recorder};
use burn::tensor::backend::AutodiffBackend;

use super::config::MlpConfig;
use super::network::Network;
use crate::jobs::session::{JobError, Session};
use crate::onnx::tabular::DenseNet;
use crate::train::epochs::{Learner, Place, State, resumed};
use crate::train::gang::{Gang, Part};
use crate::train::rng::Rng;
use crate::train::scaling::{Scaling, normalise};
use crate::train::sealed::{Reader, Writer};
use crate::train::tabular::Rows;
use crate::train::tensors::{dropout_masks, matrix, numbers, row_losses, transient, vector};

const MAGIC: &[u8] = b"tidegate mlp checkpoint 1\n";
/// Rows scored at a time outside training.
const SCORE_BATCH: usize = 4096;
/// What dropout draws from, apart from other luck of the same step.
const MASKS: u64 = 0x6d73_7465;

type Recorded = BinBytesRecorder<FullPrecisionSettings>;

/// A training run.
pub struct Trainer<B: AutodiffBackend> {
    config: MlpConfig,
    gang: Gang<B, Network<B>>,
    train: Rows,
    validation: Rows,
    scaling: Scaling,
    weights: [f32; 2],
    model: Network<B>,
    optimiser: OptimizerAdaptor<AdamW, Network<B>, B>,
    /// The best network so far, as burn records it.
    best: Vec<u8>,
}

impl<B: AutodiffBackend> Trainer<B> {
    /// A fresh run over rows as they were read; of no devices, on the default one.
    pub fn new(
        config: MlpConfig,
        mut train: Rows,
        mut validation: Rows,
        devices: Vec<B::Device>,
    ) -> Result<Self, JobError> {
        let scaling = Scaling::fit(&train.features, train.width);
        normalise(&mut train.features, &scaling);
        normalise(&mut validation.features, &scaling);
        let network = |device: &B::Device| Network::new(train.width, &config.hidden, config.seed, device);
        let gang = Gang::new(devices, network)?;
        Ok(Self {
            weights: config.source.class_weights.of(&train.labels),
            model: network(gang.first()),
            optimiser: AdamWConfig::new().with_weight_decay(config.weight_decay).init(),
            best: Vec::new(),
            train,
            validation,
            scaling,
            gang,
            config,
        })
    }

    /// Where an earlier attempt left off, or the beginning.
    pub fn resume(&mut self, session: &dyn Session) -> Result<State, JobError> {
        let fingerprint = self.fingerprint();
        resumed(session, |content| {
            let mut sections = Reader::open(content, MAGIC)?;
            let state = State::read(sections.section()?, &fingerprint)?;
            let device = self.gang.first();
            let load = |bytes: &[u8]| Recorder::<B>::load(&Recorded::default(), bytes.to_vec(), device);
            let model = load(sections.section()?).map_err(|error| error.to_string())?;
            let optimiser = Recorder::<B>::load(&Recorded::default(), sections.section()?.to_vec(), device);
            let optimiser = optimiser.map_err(|error| error.to_string())?;
            self.best = sections.section()?.to_vec();
            self.model = self.model.clone().load_record(model);
            self.optimiser = self.optimiser.clone().load_record(optimiser);
            Ok(state)
        })
    }

    /// Names the data and the parameters; a checkpoint of others is not taken up.
    fn fingerprint(&self) -> String {
        let (rows, features) = (self.train.len(), &self.config.source.features);
        let (data, backend) = (
            self.scaling.mean.iter().sum::<f32>().to_bits(),
            std::any::type_name::<B>(),
        );
        format!(
            "{rows} {features:?} {data:08x} {backend} {}",
            self.config.parameters()
        )
    }

    /// The trained model, free of burn.
    pub fn exported(&self) -> DenseNet {
        DenseNet {
            name: self.config.source.model.clone(),
            scaling: self.scaling.clone(),
            layers: self.model.valid().layers(),
            properties: self.config.source.properties(),
        }
    }

    fn recorded(&self) -> Result<Vec<u8>, JobError> {
        let record = self.model.clone().into_record();
        Recorder::<B>::record(&Recorded::default(), record, ()).map_err(transient)
    }
}

impl<B: AutodiffBackend> Learner for Trainer<B> {
    fn rows(&self) -> usize {
        self.train.len()
    }

    fn validation_labels(&self) -> &[f32] {
        &self.validation.labels
    }

    fn validation_logits(&mut self) -> Vec<f32> {
        let (width, features) = (self.validation.width, &self.validation.features);
        let score = |model: &Network<B>, at: Range<usize>, device: &B::Device| {
            let model = model.valid();
            let parts = features[at.start * width..at.end * width].chunks(SCORE_BATCH * width);
            let score = |part: &[f32]| {
                let input = matrix::<B::InnerBackend>(part.to_vec(), part.len() / width, device);
                numbers(model.forward(input, &[]))
            };
            parts.flat_map(score).collect::<Vec<f32>>()
        };
        self.gang.each(&self.model, self.validation.len(), score).concat()
    }

    fn step(&mut self, rows: &[u32], place: Place) -> Result<f64, JobError> {
        let (config, train, weights) = (&self.config, &self.train, self.weights);
        let whole = rows.len() as f32;
        let learn = |model: &Network<B>, at: Range<usize>, device: &B::Device| {
            let size = at.len();
            let luck = |row| Rng::derive(&[config.seed, MASKS, place.epoch as u64, place.step as u64, row]);
            let masks = dropout_masks(&config.hidden, config.dropout, at.clone(), luck);
            let masks: Vec<_> = masks.into_iter().map(|mask| matrix(mask, size, device)).collect();
            let rows = || rows[at.clone()].iter().map(|&row| row as usize);
            let features = rows().flat_map(|row| train.row(row).iter().copied());
            let labels: Vec<f32> = rows().map(|row| train.labels[row]).collect();
            let weight = |label: &f32| weights[usize::from(*label > 0.5)];
            let counts = labels.iter().map(weight).collect();
            let logits = model.forward(matrix(features.collect(), size, device), &masks);
            let losses = row_losses(logits, vector(labels, device)) * vector(counts, device);
            Part::of(losses.mean() * (size as f32 / whole), model, |_| ())
        };
        let stepped = self.gang.step(&self.model, rows.len(), learn);
        if stepped.loss.is_finite() {
            let rate = self.config.learning_rate;
            self.model = self.optimiser.step(rate, self.model.clone(), stepped.gradients);
        }
        Ok(stepped.loss)
    }

    fn keep_best(&mut self) -> Result<(), JobError> {
        self.best = self.recorded()?;
        Ok(())
    }

    fn restore_best(&mut self) -> Result<(), JobError> {
        let best = std::mem::take(&mut self.best);
        let best = Recorder::<B>::load(&Recorded::default(), best, self.gang.first());
        self.model = self.model.clone().load_record(best.map_err(transient)?);
        Ok(())
    }

    fn snapshot(&self, state: &State) -> Result<Vec<u8>, JobError> {
        let optimiser =
            Recorder::<B>::record(&Recorded::default(), self.optimiser.to_record(), ()).map_err(transient)?;
        let model = self.recorded()?;
        let mut out = Writer::new(MAGIC);
        out.section(|out| state.write(out, &self.fingerprint()));
        out.section(|out| out.extend_from_slice(&model));
        out.section(|out| out.extend_from_slice(&optimiser));
        out.section(|out| out.extend_from_slice(&self.best));
        Ok(out.seal())
    }
}
