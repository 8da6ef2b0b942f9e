"""Writes a network to the file that is named; the widths follow, from its features to its scores."""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

luck = np.random.default_rng(1)
widths = [int(width) for width in sys.argv[2:]]
nodes, constants, last = [], [], "features"
for at, (inputs, outputs) in enumerate(zip(widths, widths[1:]), 1):
    weights = luck.normal(size=(inputs, outputs)).astype(np.float32) / np.sqrt(inputs)
    constants.append(numpy_helper.from_array(weights.astype(np.float32), f"w{at}"))
    constants.append(numpy_helper.from_array(np.zeros(outputs, np.float32), f"b{at}"))
    nodes.append(helper.make_node("Gemm", [last, f"w{at}", f"b{at}"], [f"h{at}"]))
    last = f"h{at}"
    if at < len(widths) - 1:
        nodes.append(helper.make_node("Relu", [last], [f"r{at}"]))
        last = f"r{at}"
nodes.append(helper.make_node("Sigmoid", [last], ["score"]))
port = helper.make_tensor_value_info
inputs = [port("features", TensorProto.FLOAT, ["N", widths[0]])]
graph = helper.make_graph(nodes, "mlp", inputs, [port("score", TensorProto.FLOAT, ["N", widths[-1]])], constants)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), sys.argv[1])
