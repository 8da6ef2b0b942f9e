//! Builds a graph node by node. Names are made from a running number, so the same model gives the same bytes.

use bytes::Bytes;
use prost::Message;

use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{
    AttributeProto, AttributeType, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// A dimension of an input or output.
#[derive(Debug, Clone, Copy)]
pub enum Dim {
    /// Fixed.
    Of(usize),
    /// Chosen by the caller; dimensions of one name are equal.
    Named(&'static str),
}

/// A graph being built.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    graph: GraphProto,
}

impl GraphBuilder {
    /// Adds an input of the whole graph.
    pub fn input(&mut self, name: &str, element: DataType, shape: &[Dim]) -> String {
        self.graph.input.push(value_info(name, element, shape));
        name.to_owned()
    }

    /// Adds a constant of floats.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        self.constant(
            name,
            DataType::Float,
            shape,
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        )
    }

    /// Adds a constant of whole numbers.
    pub fn ints(&mut self, name: &str, values: &[i64]) -> String {
        self.constant(
            name,
            DataType::Int64,
            &[values.len()],
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        )
    }

    fn constant(&mut self, name: &str, kind: DataType, shape: &[usize], raw: Vec<u8>) -> String {
        self.graph.initializer.push(tensor(name, kind, shape, raw));
        name.to_owned()
    }

    /// Adds an operation of ONNX's own set; the name of its result.
    pub fn apply(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.node(
            "",
            op,
            inputs,
            attributes,
            format!("{}_{}", op.to_lowercase(), self.graph.node.len()),
        )
    }

    /// Adds a table from whole numbers to whole numbers; what is not in it becomes 0.
    pub fn lookup(&mut self, input: &str, keys: &[i64], values: Vec<i64>) -> String {
        let attributes = vec![
            ints("keys_int64s", keys.to_vec()),
            ints("values_int64s", values),
            int("default_int64", 0),
        ];
        let output = format!("lookup_{}", self.graph.node.len());
        self.node("ai.onnx.ml", "LabelEncoder", &[input], attributes, output)
    }

    /// Adds an operation of ONNX's set for classical models; the name of its result.
    pub fn apply_ml(&mut self, op: &str, input: &str, attributes: Vec<AttributeProto>) -> String {
        let output = format!("{}_{}", op.to_lowercase(), self.graph.node.len());
        self.node("ai.onnx.ml", op, &[input], attributes, output)
    }

    fn node(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
        output: String,
    ) -> String {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.clone()],
            name: Some(format!("node_{output}")),
            op_type: Some(op.to_owned()),
            attribute,
            domain: Some(domain.to_owned()),
            ..NodeProto::default()
        });
        output
    }

    /// Makes `result` the graph's output `name`, and the whole a file.
    pub fn finish(
        mut self,
        name: &str,
        result: &str,
        output: (&str, DataType, &[Dim]),
        properties: &[(&str, String)],
    ) -> Vec<u8> {
        let (output_name, element, shape) = output;
        self.node("", "Identity", &[result], Vec::new(), output_name.to_owned());
        self.graph.output.push(value_info(output_name, element, shape));
        self.graph.name = Some(name.to_owned());
        let opset = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        let property = |(key, value): &(&str, String)| StringStringEntryProto {
            key: Some((*key).to_owned()),
            value: Some(value.clone()),
        };
        let model = ModelProto {
            ir_version: Some(8),
            opset_import: vec![opset("", 17), opset("ai.onnx.ml", 3)],
            producer_name: Some("tidegate".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(self.graph),
            metadata_props: properties.iter().map(property).collect(),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }
}

/// A constant of these elements, little-endian.
pub fn tensor(name: &str, kind: DataType, shape: &[usize], raw: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: shape.iter().map(|&size| size as i64).collect(),
        data_type: Some(kind.into()),
        name: Some(name.to_owned()),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    }
}

/// A whole-number setting.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        i: Some(value),
        ..attribute(name, AttributeType::Int)
    }
}

/// A setting that is a list of whole numbers.
pub fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto {
        ints: values,
        ..attribute(name, AttributeType::Ints)
    }
}

/// A setting that is a list of numbers.
pub fn floats(name: &str, values: Vec<f32>) -> AttributeProto {
    AttributeProto {
        floats: values,
        ..attribute(name, AttributeType::Floats)
    }
}

/// A setting that is a text.
pub fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        s: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..attribute(name, AttributeType::String)
    }
}

/// A setting that is a list of texts.
pub fn texts(name: &str, values: Vec<&str>) -> AttributeProto {
    AttributeProto {
        strings: values
            .into_iter()
            .map(|value| Bytes::copy_from_slice(value.as_bytes()))
            .collect(),
        ..attribute(name, AttributeType::Strings)
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind.into()),
        ..AttributeProto::default()
    }
}

fn value_info(name: &str, element: DataType, shape: &[Dim]) -> ValueInfoProto {
    let dim = |dim: &Dim| Dimension {
        value: Some(match dim {
            Dim::Of(size) => dimension::Value::DimValue(*size as i64),
            Dim::Named(name) => dimension::Value::DimParam((*name).to_owned()),
        }),
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(element.into()),
        shape: Some(TensorShapeProto {
            dim: shape.iter().map(dim).collect(),
        }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
