//! A model with INT8 weights: somebody's file in, the same model out, a quarter as large.
//!
//! Weights are made INT8 here, once; what they are multiplied with is made UINT8 at each run, by its own range. With `a` the
//! factor of an input and `z` its zero, and `b` that of a column of weights, `(x w)[n] ≈ a b[n] Σ (X[k] - z) W[k, n]`: the
//! operators `DynamicQuantizeLinear` and `MatMulInteger` as ONNX's documentation of operators defines them, in the order in
//! which ONNX Runtime knows them as one step.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use super::graph::{int, tensor};
use super::proto::tensor_proto::DataLocation;
use super::proto::{
    AttributeProto, DataType, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
};

/// The oldest set of operators that has both.
const OLDEST: i64 = 11;
/// Weights of fewer numbers stay as they are: nothing would be gained.
const LEAST: usize = 1024;
/// The largest weight, and no more, as ONNX Runtime's documentation of quantisation advises (`reduce_range`): processors
/// without VNNI add two products in 16 bits, and 2 · 255 · 64 is the most that fits.
const LARGEST_WEIGHT: f32 = 64.0;
/// The largest number of a table, which is only looked up.
const LARGEST_ENTRY: f32 = 127.0;

/// What was made of a model.
#[derive(Debug)]
pub struct Quantised {
    /// The file.
    pub file: Vec<u8>,
    /// How many matrices of weights are INT8.
    pub weights: usize,
    /// How many tables are INT8.
    pub tables: usize,
}

/// Makes the weights of a model INT8, and where `tables` is true the tables that it looks rows up in; the error says why
/// there is nothing to be made.
pub fn quantise(file: &[u8], tables: bool) -> Result<Quantised, String> {
    let mut model = ModelProto::decode(file).map_err(|error| format!("is no ONNX file: {error}"))?;
    let ours = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let opset = model.opset_import.iter().find(|opset| ours(opset.domain()));
    let version = opset.map_or(0, |opset| opset.version());
    if version < OLDEST {
        return Err(format!(
            "uses version {version} of `ai.onnx`, allowed are {OLDEST} and later"
        ));
    }
    let graph = model.graph.as_mut().ok_or("has no graph")?;
    let made = rewrite(graph, tables)?;
    if made == [0, 0] {
        return Err(format!(
            "has nothing to make INT8: no `MatMul` and no `Gemm` with constant weights of at least {LEAST} numbers"
        ));
    }
    model.metadata_props.push(StringStringEntryProto {
        key: Some("quantised".to_owned()),
        value: Some("int8".to_owned()),
    });
    let [weights, tables] = made;
    Ok(Quantised {
        file: model.encode_to_vec(),
        weights,
        tables,
    })
}

/// Rewrites a graph in place; how many matrices and how many tables became INT8.
fn rewrite(graph: &mut GraphProto, tables: bool) -> Result<[usize; 2], String> {
    let constants = std::mem::take(&mut graph.initializer);
    // Before version 4 of the format a constant may be an input as well, which a caller may replace.
    let inputs: BTreeSet<&str> = graph.input.iter().map(|input| input.name()).collect();
    let large = |constant: &&TensorProto| is_matrix(constant) && !inputs.contains(constant.name());
    let mut rewriting = Rewriting {
        matrices: constants
            .iter()
            .filter(large)
            .map(|constant| (constant.name(), constant))
            .collect(),
        ..Rewriting::default()
    };
    for node in std::mem::take(&mut graph.node) {
        let replaced = match node.op_type() {
            _ if !node.domain().is_empty() && node.domain() != "ai.onnx" => false,
            "MatMul" => rewriting.product(&node, false, None)?,
            "Gemm" if is_plain(&node) => {
                rewriting.product(&node, whole(&node, "transB") == 1, node.input.get(2))?
            }
            "Gather" if tables && whole(&node, "axis") == 0 => rewriting.lookup(&node)?,
            _ => false,
        };
        if !replaced {
            rewriting.nodes.push(node);
        }
    }
    let counted = [rewriting.products.len(), rewriting.lookups.len()];
    let (nodes, made) = (rewriting.nodes, rewriting.constants);
    graph.node = nodes;
    let used = names_used(graph);
    let left = constants
        .into_iter()
        .filter(|constant| used.contains(constant.name()));
    graph.initializer = left.chain(made).collect();
    Ok(counted)
}

/// Whether a constant can be made INT8: a matrix of floats within the file.
fn is_matrix(constant: &TensorProto) -> bool {
    let [lines, width] = *constant.dims.as_slice() else {
        return false;
    };
    let count = lines.checked_mul(width);
    let inside = constant.data_location() != DataLocation::External;
    inside
        && constant.data_type() == DataType::Float as i32
        && count.is_some_and(|count| count >= LEAST as i64)
}

/// A `Gemm` that is a product and a sum.
fn is_plain(node: &NodeProto) -> bool {
    let factor = |name: &str| attribute(node, name).map_or(1.0, AttributeProto::f);
    factor("alpha") == 1.0 && factor("beta") == 1.0 && whole(node, "transA") == 0
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name() == name)
}

fn whole(node: &NodeProto, name: &str) -> i64 {
    attribute(node, name).map_or(0, AttributeProto::i)
}

/// The names that nodes take, those of graphs within them too, and what the graph gives.
fn names_used(graph: &GraphProto) -> BTreeSet<String> {
    let mut used: BTreeSet<String> = graph
        .output
        .iter()
        .map(|output| output.name().to_owned())
        .collect();
    for node in &graph.node {
        used.extend(node.input.iter().cloned());
        let within = node.attribute.iter();
        let within = within.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        within.for_each(|graph| used.extend(names_used(graph)));
    }
    used
}

/// A graph on its way.
#[derive(Default)]
struct Rewriting<'a> {
    /// Constants that can be made INT8.
    matrices: BTreeMap<&'a str, &'a TensorProto>,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    /// Names of INT8 weights and of their factors, by the name of the weights and whether they are turned.
    products: BTreeMap<(String, bool), [String; 2]>,
    /// Names of INT8 tables and of their factors.
    lookups: BTreeMap<String, [String; 2]>,
    /// Names of inputs as UINT8, of their factors and of their zeros.
    inputs: BTreeMap<String, [String; 3]>,
}

impl Rewriting<'_> {
    /// Puts a product by INT8 weights, and the sum with `bias`, in the place of a node; whether its weights can be that.
    fn product(&mut self, node: &NodeProto, turned: bool, bias: Option<&String>) -> Result<bool, String> {
        let ([input, weights, ..], Some(output)) = (node.input.as_slice(), node.output.first()) else {
            return Ok(false);
        };
        let Some([weights, factors]) = self.weights(weights, turned)? else {
            return Ok(false);
        };
        let [input, factor, zero] = self.input(input);
        let bias = bias.filter(|bias| !bias.is_empty());
        let name = |what: &str| format!("{output}_int8_{what}");
        let product = bias.map_or_else(|| output.clone(), |_| name("product"));
        self.node(
            "MatMulInteger",
            &[&input, &weights, &zero],
            &[&name("sums")],
            Vec::new(),
        );
        self.node("Cast", &[&name("sums")], &[&name("floats")], vec![to_float()]);
        self.node("Mul", &[&factor, &factors], &[&name("factors")], Vec::new());
        self.node(
            "Mul",
            &[&name("floats"), &name("factors")],
            &[&product],
            Vec::new(),
        );
        if let Some(bias) = bias {
            self.node("Add", &[&product, bias], &[output], Vec::new());
        }
        Ok(true)
    }

    /// Puts a look-up in an INT8 table in the place of a node; whether its table can be that.
    fn lookup(&mut self, node: &NodeProto) -> Result<bool, String> {
        let ([table, rows, ..], Some(output)) = (node.input.as_slice(), node.output.first()) else {
            return Ok(false);
        };
        let Some([table, factors]) = self.table(table)? else {
            return Ok(false);
        };
        let name = |what: &str| format!("{output}_int8_{what}");
        self.node("Gather", &[&table, rows], &[&name("entries")], Vec::new());
        self.node("Gather", &[&factors, rows], &[&name("factors")], Vec::new());
        self.node("Cast", &[&name("entries")], &[&name("floats")], vec![to_float()]);
        self.node("Mul", &[&name("floats"), &name("factors")], &[output], Vec::new());
        Ok(true)
    }

    /// What is multiplied, as UINT8, once for all products.
    fn input(&mut self, input: &str) -> [String; 3] {
        if let Some(known) = self.inputs.get(input) {
            return known.clone();
        }
        let names = ["input", "factor", "zero"].map(|what| format!("{input}_uint8_{what}"));
        self.node(
            "DynamicQuantizeLinear",
            &[input],
            &names.each_ref().map(String::as_str),
            Vec::new(),
        );
        self.inputs.insert(input.to_owned(), names.clone());
        names
    }

    /// INT8 weights with a factor for each column, whose columns are the lines of `name` where they are turned.
    fn weights(&mut self, name: &str, turned: bool) -> Result<Option<[String; 2]>, String> {
        let key = (name.to_owned(), turned);
        if let Some(known) = self.products.get(&key) {
            return Ok(Some(known.clone()));
        }
        let Some(matrix) = self.matrix(name)? else {
            return Ok(None);
        };
        let lines = if turned { matrix } else { matrix.turned() };
        let (int8, factors) = lines.int8(LARGEST_WEIGHT);
        let names = [
            format!("{name}_int8_{turned}"),
            format!("{name}_factors_{turned}"),
        ];
        let width = factors.len();
        let int8 = int8.turned();
        self.keep(&names, int8, &[width], &factors);
        self.products.insert(key, names.clone());
        Ok(Some(names))
    }

    /// An INT8 table with a factor for each row.
    fn table(&mut self, name: &str) -> Result<Option<[String; 2]>, String> {
        if let Some(known) = self.lookups.get(name) {
            return Ok(Some(known.clone()));
        }
        let Some(matrix) = self.matrix(name)? else {
            return Ok(None);
        };
        let (int8, factors) = matrix.int8(LARGEST_ENTRY);
        let names = [format!("{name}_int8_table"), format!("{name}_factors_table")];
        self.keep(&names, int8, &[factors.len(), 1], &factors);
        self.lookups.insert(name.to_owned(), names.clone());
        Ok(Some(names))
    }

    fn matrix(&self, name: &str) -> Result<Option<Matrix<f32>>, String> {
        let found = self.matrices.get(name);
        found.map(|constant| Matrix::of(constant)).transpose()
    }

    fn keep(&mut self, [name, of_factors]: &[String; 2], int8: Matrix<i8>, shape: &[usize], factors: &[f32]) {
        let lines = int8.values.len() / int8.width.max(1);
        let bytes = int8.values.iter().map(|value| value.to_le_bytes()[0]).collect();
        let factors = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
        self.constants
            .push(tensor(name, DataType::Int8, &[lines, int8.width], bytes));
        self.constants
            .push(tensor(of_factors, DataType::Float, shape, factors));
    }

    fn node(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        self.nodes.push(NodeProto {
            input: owned(inputs),
            output: owned(outputs),
            name: outputs.first().map(|output| format!("node_{output}")),
            op_type: Some(op.to_owned()),
            attribute,
            ..NodeProto::default()
        });
    }
}

fn to_float() -> AttributeProto {
    int("to", DataType::Float as i64)
}

/// Numbers line by line.
struct Matrix<T> {
    values: Vec<T>,
    width: usize,
}

impl<T: Copy> Matrix<T> {
    fn turned(&self) -> Self {
        let lines = self.values.len() / self.width.max(1);
        let column = |at: usize| self.values.iter().skip(at).step_by(self.width.max(1));
        Self {
            values: (0..self.width).flat_map(column).copied().collect(),
            width: lines,
        }
    }
}

impl Matrix<f32> {
    fn of(constant: &TensorProto) -> Result<Self, String> {
        let values: Vec<f32> = match &constant.raw_data {
            Some(raw) => raw
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
            None => constant.float_data.clone(),
        };
        let name = constant.name();
        let sizes: Vec<usize> = constant
            .dims
            .iter()
            .map(|&size| usize::try_from(size).unwrap_or(0))
            .collect();
        let count = sizes
            .iter()
            .try_fold(1_usize, |count, size| count.checked_mul(*size));
        if count != Some(values.len()) {
            return Err(format!(
                "has {} numbers in constant `{name}`, which is not its shape",
                values.len()
            ));
        }
        if let Some(found) = values.iter().find(|value| !value.is_finite()) {
            return Err(format!(
                "has {found} in constant `{name}`, allowed are finite numbers"
            ));
        }
        Ok(Self {
            values,
            width: sizes.last().copied().unwrap_or(0),
        })
    }

    /// Each line as whole numbers up to `largest`, and what one of them stands for.
    fn int8(&self, largest: f32) -> (Matrix<i8>, Vec<f32>) {
        let mut values = Vec::with_capacity(self.values.len());
        let mut factors = Vec::new();
        for line in self.values.chunks_exact(self.width.max(1)) {
            let most = line.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let factor = if most > 0.0 { most / largest } else { 1.0 };
            values.extend(
                line.iter()
                    .map(|value| (value / factor).round().clamp(-largest, largest) as i8),
            );
            factors.push(factor);
        }
        let width = self.width;
        (Matrix { values, width }, factors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_whole_numbers_that_are_near_it_and_a_line_of_nothing_stays_one() {
        let matrix = Matrix {
            values: vec![1.0, -2.0, 0.5, 0.0, 0.0, 0.0],
            width: 3,
        };
        let (int8, factors) = matrix.int8(LARGEST_WEIGHT);
        assert_eq!(int8.values, [32, -64, 16, 0, 0, 0]);
        assert_eq!(factors, [2.0 / 64.0, 1.0]);
        assert_eq!(int8.turned().values, [32, 0, -64, 0, 16, 0]);
        assert_eq!(int8.turned().turned().values, int8.values);
    }
}
