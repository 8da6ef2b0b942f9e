"""Writes ONNX files into a folder: `types.onnx` gives back what it takes, one input of each type of the protocol, and
`sums.onnx` gives the sum of each row; `thrice.onnx` thrice of it, and `broken.onnx` fails on every row that does not begin with
0, both of the same inputs and outputs; `wide.onnx` gives a score of each row."""

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


def save(name, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
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


def thrice():
    port = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Constant", [], ["axes"], value_ints=[1]),
        helper.make_node("ReduceSum", ["x", "axes"], ["whole"], keepdims=1),
        helper.make_node("Constant", [], ["three"], value_float=3.0),
        helper.make_node("Mul", ["whole", "three"], ["sum"]),
    ]
    save("thrice", nodes, [port("x", TensorProto.FLOAT, ["N", 4])], [port("sum", TensorProto.FLOAT, ["N", 1])])


def broken():
    port = helper.make_tensor_value_info
    # The first number of a row is taken for the index of a column, of which there is one.
    nodes = [
        helper.make_node("Constant", [], ["axes"], value_ints=[1]),
        helper.make_node("ReduceSum", ["x", "axes"], ["whole"], keepdims=1),
        helper.make_node("Constant", [], ["first"], value_int=0),
        helper.make_node("Gather", ["x", "first"], ["column"], axis=1),
        helper.make_node("Constant", [], ["row"], value_int=0),
        helper.make_node("Gather", ["column", "row"], ["number"], axis=0),
        helper.make_node("Cast", ["number"], ["index"], to=TensorProto.INT64),
        helper.make_node("Constant", [], ["shape"], value_ints=[1]),
        helper.make_node("Reshape", ["index", "shape"], ["indices"]),
        helper.make_node("Gather", ["whole", "indices"], ["sum"], axis=1),
    ]
    save("broken", nodes, [port("x", TensorProto.FLOAT, ["N", 4])], [port("sum", TensorProto.FLOAT, ["N", 1])])


def wide():
    """`wide.onnx`: a product by weights that are worth making INT8."""
    port = helper.make_tensor_value_info
    values = [((at * 37) % 101 - 50) / 50 for at in range(4 * 512)]
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [4, 512], values)
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["product"]),
        helper.make_node("ReduceMean", ["product"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sigmoid", ["mean"], ["score"]),
    ]
    inputs = [port("x", TensorProto.FLOAT, ["N", 4])]
    save("wide", nodes, inputs, [port("score", TensorProto.FLOAT, ["N", 1])], [weights])


types()
sums()
thrice()
broken()
wide()
