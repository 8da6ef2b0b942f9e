//! The ranker as an ONNX graph: ids and raw features in, a score per item out.
//!
//! The first layer of a tower is linear in the embedding, so the exporter multiplies the embedding table by that
//! part of the layer's weights once and for all: at run time a lookup takes the place of half of a tower's work.

use super::graph::{Dim, GraphBuilder, int};
use super::proto::{FLOAT, INT64};
use crate::train::dataset::{FEATURE_CLIP, Scaling};

/// A trained ranker, free of the framework it was trained with.
#[derive(Debug, Clone)]
pub struct Ranker {
    /// The model's name.
    pub name: String,
    /// The user side.
    pub user: Side,
    /// The item side.
    pub item: Side,
    /// Added to each dot product.
    pub bias: f32,
    /// Further facts for the file, in order.
    pub properties: Vec<(&'static str, String)>,
}

/// One tower with its embeddings.
#[derive(Debug, Clone)]
pub struct Side {
    /// Known ids; the n-th has row n + 1 of the table.
    pub ids: Vec<i64>,
    /// Embeddings, row by row; row 0 is for unknown ids.
    pub table: Vec<f32>,
    /// Width of an embedding.
    pub dim: usize,
    /// Scaling of the features.
    pub scaling: Scaling,
    /// The layers; the first takes an embedding followed by the features.
    pub layers: Vec<Dense>,
}

/// A linear layer.
#[derive(Debug, Clone)]
pub struct Dense {
    /// `inputs * outputs` numbers, a line for each input.
    pub weights: Vec<f32>,
    /// One number for each output.
    pub bias: Vec<f32>,
}

impl Ranker {
    /// The model as the bytes of an ONNX file.
    ///
    /// Inputs `user_id` int64 `[U]`, `user_features` float32 `[U, F]`, `item_id` int64 `[N]`, `item_features`
    /// float32 `[N, G]`, with U = 1 (one user, many items) or U = N (pairs); output `score` float32 `[N]`.
    pub fn to_onnx(&self) -> Vec<u8> {
        let mut graph = GraphBuilder::default();
        let user = tower(&mut graph, "user", "U", &self.user);
        let item = tower(&mut graph, "item", "N", &self.item);
        let product = graph.apply("Mul", &[&item, &user], Vec::new());
        let axis = graph.ints("axis", &[1]);
        let dot = graph.apply("ReduceSum", &[&product, &axis], vec![int("keepdims", 0)]);
        let bias = graph.floats("bias", &[1], &[self.bias]);
        let logit = graph.apply("Add", &[&dot, &bias], Vec::new());
        let score = graph.apply("Sigmoid", &[&logit], Vec::new());
        graph.finish(
            &self.name,
            &score,
            ("score", FLOAT, &[Dim::Named("N")]),
            &self.properties,
        )
    }
}

fn tower(graph: &mut GraphBuilder, name: &str, rows: &'static str, side: &Side) -> String {
    let features = side.scaling.mean.len();
    let id = graph.input(&format!("{name}_id"), INT64, &[Dim::Named(rows)]);
    let raw = graph.input(
        &format!("{name}_features"),
        FLOAT,
        &[Dim::Named(rows), Dim::Of(features)],
    );
    let Some((first, rest)) = side.layers.split_first() else {
        return raw;
    };
    let mut hidden = embedded(graph, name, &id, side, first);
    if features > 0 {
        let scaled = scaled(graph, name, &raw, &side.scaling);
        let width = first.bias.len();
        let weights = &first.weights[side.dim * width..];
        let weights = graph.floats(&format!("{name}_feature_weights"), &[features, width], weights);
        let part = graph.apply("MatMul", &[&scaled, &weights], Vec::new());
        hidden = graph.apply("Add", &[&hidden, &part], Vec::new());
    }
    let mut width = first.bias.len();
    for (at, layer) in rest.iter().enumerate() {
        hidden = graph.apply("Relu", &[&hidden], Vec::new());
        let outputs = layer.bias.len();
        let weights = graph.floats(&format!("{name}_weights_{at}"), &[width, outputs], &layer.weights);
        let bias = graph.floats(&format!("{name}_bias_{at}"), &[outputs], &layer.bias);
        hidden = graph.apply("Gemm", &[&hidden, &weights, &bias], Vec::new());
        width = outputs;
    }
    hidden
}

/// The embedding's share of the first layer, its bias included, as one lookup.
fn embedded(graph: &mut GraphBuilder, name: &str, id: &str, side: &Side, first: &Dense) -> String {
    let width = first.bias.len();
    let rows = side.table.len() / side.dim.max(1);
    let mut folded = Vec::with_capacity(rows * width);
    for embedding in side.table.chunks_exact(side.dim.max(1)) {
        let start = folded.len();
        folded.extend_from_slice(&first.bias);
        let line = &mut folded[start..];
        for (value, weights) in embedding.iter().zip(first.weights.chunks_exact(width)) {
            line.iter_mut()
                .zip(weights)
                .for_each(|(sum, weight)| *sum += value * weight);
        }
    }
    let table = graph.floats(&format!("{name}_table"), &[rows, width], &folded);
    let row = graph.lookup(id, &side.ids, (1..=side.ids.len() as i64).collect());
    graph.apply("Gather", &[&table, &row], vec![int("axis", 0)])
}

fn scaled(graph: &mut GraphBuilder, name: &str, raw: &str, scaling: &Scaling) -> String {
    let mean = graph.floats(&format!("{name}_mean"), &[scaling.mean.len()], &scaling.mean);
    let inverse = graph.floats(
        &format!("{name}_inverse_std"),
        &[scaling.std.len()],
        &scaling.inverse(),
    );
    let least = graph.floats(&format!("{name}_least"), &[], &[-FEATURE_CLIP]);
    let most = graph.floats(&format!("{name}_most"), &[], &[FEATURE_CLIP]);
    let centred = graph.apply("Sub", &[raw, &mean], Vec::new());
    let scaled = graph.apply("Mul", &[&centred, &inverse], Vec::new());
    graph.apply("Clip", &[&scaled, &least, &most], Vec::new())
}
