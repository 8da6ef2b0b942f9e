//! A network on tabular data as an ONNX graph: raw features in, a score per row out. The scaling is part of it.

use super::graph::{Dim, GraphBuilder, int};
use super::proto::DataType;
use super::ranker::{Dense, scaled};
use crate::train::scaling::Scaling;

/// A trained network, free of the framework it was trained with.
#[derive(Debug, Clone)]
pub struct DenseNet {
    /// The model's name.
    pub name: String,
    /// Scaling of the features.
    pub scaling: Scaling,
    /// The layers, with ReLU between them; the last one gives the logit.
    pub layers: Vec<Dense>,
    /// Further facts for the file, in order.
    pub properties: Vec<(&'static str, String)>,
}

impl DenseNet {
    /// The model as the bytes of an ONNX file: input `features` float32 `[N, F]`, output `score` float32 `[N]`.
    pub fn to_onnx(&self) -> Vec<u8> {
        let mut graph = GraphBuilder::default();
        let width = self.scaling.mean.len();
        let raw = graph.input("features", DataType::Float, &[Dim::Named("N"), Dim::Of(width)]);
        let mut hidden = scaled(&mut graph, "features", &raw, &self.scaling);
        let mut inputs = width;
        for (at, layer) in self.layers.iter().enumerate() {
            if at > 0 {
                hidden = graph.apply("Relu", &[&hidden], Vec::new());
            }
            let outputs = layer.bias.len();
            let weights = graph.floats(&format!("weights_{at}"), &[inputs, outputs], &layer.weights);
            let bias = graph.floats(&format!("bias_{at}"), &[outputs], &layer.bias);
            hidden = graph.apply("Gemm", &[&hidden, &weights, &bias], Vec::new());
            inputs = outputs;
        }
        let score = graph.apply("Sigmoid", &[&hidden], Vec::new());
        let score = one_a_row(&mut graph, &score);
        graph.finish(
            &self.name,
            &score,
            ("score", DataType::Float, &[Dim::Named("N")]),
            &self.properties,
        )
    }
}

/// `[N, 1]` as `[N]`.
pub(super) fn one_a_row(graph: &mut GraphBuilder, scores: &str) -> String {
    let axis = graph.ints("score_axis", &[1]);
    graph.apply("ReduceSum", &[scores, &axis], vec![int("keepdims", 0)])
}
