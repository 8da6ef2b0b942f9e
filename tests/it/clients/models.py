"""Writes ONNX files into a folder: `types.onnx` gives back what it takes, one input of each type of the protocol, and
`sums.onnx` gives the sum of each row."""

import sys

import onnx
from onnx import TensorProto, helper

TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def save(name, nodes, inputs, outputs):
    graph = helper.make_graph(nodes, name, inputs, outputs)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, f"{sys.argv[1]}/{name}.onnx")


def types():
    port = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in TYPES]
    inputs = [port(f"in_{name}", kind, ["N"]) for name, kind in TYPES.items()]
    outputs = [port(f"out_{name}", kind, ["N"]) for name, kind in TYPES.items()]
    save("types", nodes, inputs, outputs)


def sums():
    port = helper.make_tensor_value_info
    node = helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1)
    axes = helper.make_node("Constant", [], ["axes"], value_ints=[1])
    save("sums", [axes, node], [port("x", TensorProto.FLOAT, ["N", 4])], [port("sum", TensorProto.FLOAT, ["N", 1])])


types()
sums()
