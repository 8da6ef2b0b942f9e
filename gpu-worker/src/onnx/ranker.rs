//! The ranker as an ONNX graph: ids and raw features in, a score per item out.
//!
//! The first layer of a tower is linear in the embedding, so the exporter multiplies the embedding table by that
//! part of the layer's weights once and for all: at run time a lookup takes the place of half of a tower's work.

use super::graph::{Dim, GraphBuilder, int};
use super::proto::DataType;
use crate::train::scaling::{FEATURE_CLIP, Scaling};

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
        let dot = self.products(&mut graph);
        let bias = graph.floats("bias", &[1], &[self.bias]);
        let logit = graph.apply("Add", &[&dot, &bias], Vec::new());
        let score = graph.apply("Sigmoid", &[&logit], Vec::new());
        graph.finish(
            &self.name,
            &score,
            ("score", DataType::Float, &[Dim::Named("N")]),
            &self.properties,
        )
    }

    /// The dot product of the user's vector with each item's, `[N]`.
    ///
    /// With u the user's vector and h what enters the item tower's last layer, (W h + b)·u = h·(Wᵀ u) + b·u: that layer
    /// is multiplied into the one user instead of into every item, which spares most of the work of a ranking.
    fn products(&self, graph: &mut GraphBuilder) -> String {
        let user = tower(graph, "user", "U", &self.user, &self.user.layers);
        let Some((last, before)) = self
            .item
            .layers
            .split_last()
            .filter(|(_, before)| !before.is_empty())
        else {
            let item = tower(graph, "item", "N", &self.item, &self.item.layers);
            return dot(graph, &item, &user);
        };
        let item = tower(graph, "item", "N", &self.item, before);
        let item = graph.apply("Relu", &[&item], Vec::new());
        let outputs = last.bias.len();
        let shape = [last.weights.len() / outputs.max(1), outputs];
        let weights = graph.floats("item_last_weights", &shape, &last.weights);
        let bias = graph.floats("item_last_bias", &[outputs], &last.bias);
        let turned = graph.apply("Gemm", &[&user, &weights], vec![int("transB", 1)]);
        let (linear, constant) = (dot(graph, &item, &turned), dot(graph, &user, &bias));
        graph.apply("Add", &[&linear, &constant], Vec::new())
    }
}

/// The dot product of each row.
fn dot(graph: &mut GraphBuilder, one: &str, other: &str) -> String {
    let product = graph.apply("Mul", &[one, other], Vec::new());
    let axis = graph.ints(&format!("axis_of_{product}"), &[1]);
    graph.apply("ReduceSum", &[&product, &axis], vec![int("keepdims", 0)])
}

/// A tower as far as these layers, its first ones.
fn tower(graph: &mut GraphBuilder, name: &str, rows: &'static str, side: &Side, layers: &[Dense]) -> String {
    let features = side.scaling.mean.len();
    let id = graph.input(&format!("{name}_id"), DataType::Int64, &[Dim::Named(rows)]);
    let raw = graph.input(
        &format!("{name}_features"),
        DataType::Float,
        &[Dim::Named(rows), Dim::Of(features)],
    );
    let Some((first, rest)) = layers.split_first() else {
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

/// Features as the model was trained on them.
pub(super) fn scaled(graph: &mut GraphBuilder, name: &str, raw: &str, scaling: &Scaling) -> String {
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
