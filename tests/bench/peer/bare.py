"""ONNX Runtime alone, one thread, the inputs of one request: microseconds a request. `N` is what the caller chooses: items, or
rows; one user asks."""

import os
import time

import numpy as np
import onnxruntime as ort

options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
rows = {"N": int(os.environ.get("ROWS", "100"))}


def made(port):
    shape = [size if isinstance(size, int) else rows.get(size, 1) for size in port.shape]
    if port.type == "tensor(int64)":
        return np.arange(1, shape[0] + 1, dtype=np.int64)
    return np.full(shape, 0.5, dtype=np.float32)


inputs = {port.name: made(port) for port in session.get_inputs()}
for _ in range(200):
    session.run(None, inputs)
took = []
for _ in range(2000):
    started = time.perf_counter()
    session.run(None, inputs)
    took.append(time.perf_counter() - started)
print(sorted(took)[len(took) // 2] * 1e6)
