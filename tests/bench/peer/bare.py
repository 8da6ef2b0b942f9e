"""ONNX Runtime alone, one thread, the inputs of one request: microseconds a request."""

import os
import time

import numpy as np
import onnxruntime as ort

options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
width = {given.name: given.shape[-1] for given in session.get_inputs()}
inputs = {
    "user_id": np.array([1], dtype=np.int64),
    "user_features": np.full((1, width["user_features"]), 0.5, dtype=np.float32),
    "item_id": np.arange(100, dtype=np.int64),
    "item_features": np.full((100, width["item_features"]), 0.5, dtype=np.float32),
}
for _ in range(200):
    session.run(["score"], inputs)
took = []
for _ in range(2000):
    started = time.perf_counter()
    session.run(["score"], inputs)
    took.append(time.perf_counter() - started)
print(sorted(took)[len(took) // 2] * 1e6)
