//! What a step of the network is, and what is kept of it.

use burn::module::{AutodiffModule, Module};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, AdamWConfig, GradientsParams, Optimizer};
use burn::record::{BinBytesRecorder, FullPrecisionSettings, Recorder};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};

use super::config::MlpConfig;
use super::network::Network;
use crate::jobs::session::{JobError, Session};
use crate::onnx::tabular::DenseNet;
use crate::train::epochs::{Learner, Place, State, resumed};
use crate::train::rng::Rng;
use crate::train::scaling::{Scaling, normalise};
use crate::train::sealed::{Reader, Writer};
use crate::train::tabular::Rows;
use crate::train::tensors::{dropout_mask, numbers, row_losses, transient};

const MAGIC: &[u8] = b"tidegate mlp checkpoint 1\n";
/// Rows scored at a time outside training.
const SCORE_BATCH: usize = 4096;

type Recorded = BinBytesRecorder<FullPrecisionSettings>;

/// A training run.
pub struct Trainer<B: AutodiffBackend> {
    config: MlpConfig,
    device: B::Device,
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
    /// A fresh run over rows as they were read.
    pub fn new(config: MlpConfig, mut train: Rows, mut validation: Rows, device: B::Device) -> Self {
        let scaling = Scaling::fit(&train.features, train.width);
        normalise(&mut train.features, &scaling);
        normalise(&mut validation.features, &scaling);
        Self {
            weights: config.source.class_weights.of(&train.labels),
            model: Network::new(train.width, &config.hidden, config.seed, &device),
            optimiser: AdamWConfig::new().with_weight_decay(config.weight_decay).init(),
            best: Vec::new(),
            train,
            validation,
            scaling,
            config,
            device,
        }
    }

    /// Where an earlier attempt left off, or the beginning.
    pub fn resume(&mut self, session: &dyn Session) -> Result<State, JobError> {
        let fingerprint = self.fingerprint();
        resumed(session, |content| {
            let mut sections = Reader::open(content, MAGIC)?;
            let state = State::read(sections.section()?, &fingerprint)?;
            let load = |bytes: &[u8]| Recorder::<B>::load(&Recorded::default(), bytes.to_vec(), &self.device);
            let model = load(sections.section()?).map_err(|error| error.to_string())?;
            let optimiser =
                Recorder::<B>::load(&Recorded::default(), sections.section()?.to_vec(), &self.device);
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

/// Rows of features as a tensor.
fn tensor<B: Backend>(values: Vec<f32>, rows: usize, width: usize, device: &B::Device) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(values, [rows, width]), device)
}

impl<B: AutodiffBackend> Learner for Trainer<B> {
    fn rows(&self) -> usize {
        self.train.len()
    }

    fn validation_labels(&self) -> &[f32] {
        &self.validation.labels
    }

    fn validation_logits(&self) -> Vec<f32> {
        let (model, width) = (self.model.valid(), self.validation.width);
        let parts = self.validation.features.chunks(SCORE_BATCH * width);
        let score = |part: &[f32]| {
            let input = tensor::<B::InnerBackend>(part.to_vec(), part.len() / width, width, &self.device);
            numbers(model.forward(input, &[]))
        };
        parts.flat_map(score).collect()
    }

    fn step(&mut self, rows: &[u32], place: Place) -> Result<f64, JobError> {
        let size = rows.len();
        let mut rng = Rng::derive(&[
            self.config.seed,
            0x6d73_7465,
            place.epoch as u64,
            place.step as u64,
        ]);
        let values = rows
            .iter()
            .flat_map(|&at| self.train.row(at as usize).iter().copied());
        let input = tensor::<B>(values.collect(), size, self.train.width, &self.device);
        let dropout = self.config.dropout;
        let widths = if dropout > 0.0 {
            &self.config.hidden[..]
        } else {
            &[]
        };
        let mask = |width: &usize| dropout_mask(size, *width, dropout, &mut rng, &self.device);
        let masks: Vec<Tensor<B, 2>> = widths.iter().map(mask).collect();
        let labels: Vec<f32> = rows.iter().map(|&at| self.train.labels[at as usize]).collect();
        let weights = labels
            .iter()
            .map(|&label| self.weights[usize::from(label > 0.5)])
            .collect::<Vec<_>>();
        let vector =
            |values: Vec<f32>| Tensor::<B, 1>::from_data(TensorData::new(values, [size]), &self.device);
        let losses = row_losses(self.model.forward(input, &masks), vector(labels));
        let loss = (losses * vector(weights)).mean();
        let value = f64::from(numbers(loss.clone().inner()).first().copied().unwrap_or(f32::NAN));
        if value.is_finite() {
            let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
            self.model = self
                .optimiser
                .step(self.config.learning_rate, self.model.clone(), gradients);
        }
        Ok(value)
    }

    fn keep_best(&mut self) -> Result<(), JobError> {
        self.best = self.recorded()?;
        Ok(())
    }

    fn restore_best(&mut self) -> Result<(), JobError> {
        let best = Recorder::<B>::load(&Recorded::default(), std::mem::take(&mut self.best), &self.device);
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
