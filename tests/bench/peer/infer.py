"""The peer for models: FastAPI that answers the Open Inference Protocol's JSON, as one would write it."""

import os

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
folder = os.environ["MODELS"]
models = {
    name: ort.InferenceSession(f"{folder}/{name}/model.onnx", options, providers=["CPUExecutionProvider"])
    for name in sorted(os.listdir(folder))
}
types = {"FP32": np.float32, "INT64": np.int64}
names = {np.dtype(kind): name for name, kind in types.items()}

app = FastAPI()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list


class Question(BaseModel):
    inputs: list[Tensor]


@app.post("/v2/models/{model}/infer")
async def infer(model: str, question: Question):
    session = models[model]
    inputs = {one.name: np.array(one.data, dtype=types[one.datatype]).reshape(one.shape) for one in question.inputs}
    given = zip(session.get_outputs(), session.run(None, inputs))
    outputs = [
        {"name": port.name, "datatype": names[of.dtype], "shape": list(of.shape), "data": of.ravel().tolist()}
        for port, of in given
    ]
    return {"model_name": model, "model_version": "1", "outputs": outputs}
