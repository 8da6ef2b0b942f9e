//! Trees as an ONNX graph, by the operator for ensembles of trees: raw features in, a score per row out.

use super::graph::{Dim, GraphBuilder, floats, int, ints, text, texts};
use super::proto::{AttributeProto, DataType};
use super::tabular::one_a_row;
use crate::train::trees::grow::{Node, Tree};

/// Trained trees.
#[derive(Debug)]
pub struct TreeEnsemble<'a> {
    /// The model's name.
    pub name: &'a str,
    /// How many features it takes.
    pub features: usize,
    /// The trees.
    pub trees: &'a [Tree],
    /// What their sum begins with.
    pub base: f32,
    /// Whether the score is their mean; else it is the sigmoid of their sum.
    pub average: bool,
    /// Further facts for the file, in order.
    pub properties: Vec<(&'static str, String)>,
}

impl TreeEnsemble<'_> {
    /// The model as the bytes of an ONNX file: input `features` float32 `[N, F]`, output `score` float32 `[N]`.
    pub fn to_onnx(&self) -> Vec<u8> {
        let mut graph = GraphBuilder::default();
        let raw = graph.input(
            "features",
            DataType::Float,
            &[Dim::Named("N"), Dim::Of(self.features)],
        );
        let mut score = graph.apply_ml("TreeEnsembleRegressor", &raw, self.attributes());
        if !self.average {
            score = graph.apply("Sigmoid", &[&score], Vec::new());
        }
        let score = one_a_row(&mut graph, &score);
        graph.finish(
            self.name,
            &score,
            ("score", DataType::Float, &[Dim::Named("N")]),
            &self.properties,
        )
    }

    /// A line for each node of each tree, and one more for each leaf.
    fn attributes(&self) -> Vec<AttributeProto> {
        let nodes: Vec<(usize, usize, &Node)> = self
            .trees
            .iter()
            .enumerate()
            .flat_map(|(tree, of)| {
                of.nodes
                    .iter()
                    .enumerate()
                    .map(move |(at, node)| (tree, at, node))
            })
            .collect();
        let whole =
            |of: &dyn Fn(&(usize, usize, &Node)) -> usize| nodes.iter().map(|node| of(node) as i64).collect();
        let leaves: Vec<_> = nodes.iter().filter(|(_, _, node)| node.left == 0).collect();
        let of_leaves = |of: &dyn Fn(&(usize, usize, &Node)) -> usize| {
            leaves.iter().map(|leaf| of(leaf) as i64).collect()
        };
        let child = |node: &Node, right: usize| {
            if node.left == 0 {
                0
            } else {
                node.left as usize + right
            }
        };
        let mode = |node: &Node| if node.left == 0 { "LEAF" } else { "BRANCH_LEQ" };
        vec![
            int("n_targets", 1),
            text("post_transform", "NONE"),
            text("aggregate_function", if self.average { "AVERAGE" } else { "SUM" }),
            floats("base_values", vec![self.base]),
            ints("nodes_treeids", whole(&|(tree, ..)| *tree)),
            ints("nodes_nodeids", whole(&|(_, at, _)| *at)),
            ints("nodes_featureids", whole(&|(.., node)| node.feature as usize)),
            floats(
                "nodes_values",
                nodes.iter().map(|(.., node)| node.threshold).collect(),
            ),
            texts("nodes_modes", nodes.iter().map(|(.., node)| mode(node)).collect()),
            ints("nodes_truenodeids", whole(&|(.., node)| child(node, 0))),
            ints("nodes_falsenodeids", whole(&|(.., node)| child(node, 1))),
            ints("target_treeids", of_leaves(&|(tree, ..)| *tree)),
            ints("target_nodeids", of_leaves(&|(_, at, _)| *at)),
            ints("target_ids", of_leaves(&|_| 0)),
            floats(
                "target_weights",
                leaves.iter().map(|(.., node)| node.value).collect(),
            ),
        ]
    }
}
