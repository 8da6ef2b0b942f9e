//! Builds a graph node by node. Names are made from a running number, so the same model gives the same bytes.

use prost::Message;

use super::proto::*;

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
    pub fn input(&mut self, name: &str, element: i32, shape: &[Dim]) -> String {
        self.graph.input.push(value_info(name, element, shape));
        name.to_owned()
    }

    /// Adds a constant of floats.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        self.constant(
            name,
            FLOAT,
            shape,
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        )
    }

    /// Adds a constant of whole numbers.
    pub fn ints(&mut self, name: &str, values: &[i64]) -> String {
        self.constant(
            name,
            INT64,
            &[values.len()],
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        )
    }

    fn constant(&mut self, name: &str, data_type: i32, shape: &[usize], raw_data: Vec<u8>) -> String {
        let dims = shape.iter().map(|&size| size as i64).collect();
        self.graph.initializer.push(TensorProto {
            dims,
            data_type,
            name: name.to_owned(),
            raw_data,
        });
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
            name: format!("node_{output}"),
            op_type: op.to_owned(),
            attribute,
            domain: domain.to_owned(),
        });
        output
    }

    /// Makes `result` the graph's output `name`, and the whole a file.
    pub fn finish(
        mut self,
        name: &str,
        result: &str,
        output: (&str, i32, &[Dim]),
        properties: &[(&str, String)],
    ) -> Vec<u8> {
        let (output_name, element, shape) = output;
        self.node("", "Identity", &[result], Vec::new(), output_name.to_owned());
        self.graph.output.push(value_info(output_name, element, shape));
        self.graph.name = name.to_owned();
        let opset = |domain: &str, version| OperatorSetIdProto {
            domain: domain.to_owned(),
            version,
        };
        let model = ModelProto {
            ir_version: 8,
            opset_import: vec![opset("", 17), opset("ai.onnx.ml", 3)],
            producer_name: "tidegate".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(self.graph),
            metadata_props: properties
                .iter()
                .map(|(key, value)| StringStringEntryProto {
                    key: (*key).to_owned(),
                    value: value.clone(),
                })
                .collect(),
        };
        model.encode_to_vec()
    }
}

/// A whole-number setting.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        i: Some(value),
        ..attribute(name, ATTRIBUTE_INT)
    }
}

/// A setting that is a list of whole numbers.
pub fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto {
        ints: values,
        ..attribute(name, ATTRIBUTE_INTS)
    }
}

/// A setting that is a list of numbers.
pub fn floats(name: &str, values: Vec<f32>) -> AttributeProto {
    AttributeProto {
        floats: values,
        ..attribute(name, ATTRIBUTE_FLOATS)
    }
}

/// A setting that is a text.
pub fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        s: Some(value.as_bytes().to_vec()),
        ..attribute(name, ATTRIBUTE_STRING)
    }
}

/// A setting that is a list of texts.
pub fn texts(name: &str, values: Vec<&str>) -> AttributeProto {
    AttributeProto {
        strings: values
            .into_iter()
            .map(|value| value.as_bytes().to_vec())
            .collect(),
        ..attribute(name, ATTRIBUTE_STRINGS)
    }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        kind,
        ..AttributeProto::default()
    }
}

fn value_info(name: &str, elem_type: i32, shape: &[Dim]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|dim| match dim {
            Dim::Of(size) => DimensionProto {
                dim_value: Some(*size as i64),
                dim_param: None,
            },
            Dim::Named(name) => DimensionProto {
                dim_value: None,
                dim_param: Some((*name).to_owned()),
            },
        })
        .collect();
    let tensor_type = Some(TensorTypeProto {
        elem_type,
        shape: Some(TensorShapeProto { dim }),
    });
    ValueInfoProto {
        name: name.to_owned(),
        kind: Some(TypeProto { tensor_type }),
    }
}
