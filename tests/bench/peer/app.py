"""The peer: the same model behind FastAPI, as one would write it. Its features lie in memory."""

import os
import time

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
width = {given.name: given.shape[-1] for given in session.get_inputs()}
no_user = np.zeros(width["user_features"], dtype=np.float32)
no_item = np.zeros(width["item_features"], dtype=np.float32)
users = {user: np.full_like(no_user, 0.5) for user in range(10_000)}
items = {item: np.full_like(no_item, 0.5) for item in range(50_000)}

app = FastAPI()


class Question(BaseModel):
    user_id: int
    item_ids: list[int]
    context: dict | None = None


@app.post("/predict")
async def predict(question: Question):
    started = time.perf_counter()
    scores = session.run(
        ["score"],
        {
            "user_id": np.array([question.user_id], dtype=np.int64),
            "user_features": users.get(question.user_id, no_user)[None, :],
            "item_id": np.array(question.item_ids, dtype=np.int64),
            "item_features": np.stack([items.get(item, no_item) for item in question.item_ids]),
        },
    )[0]
    predictions = [{"item_id": item, "score": float(score)} for item, score in zip(question.item_ids, scores)]
    ranked = sorted(predictions, key=lambda one: -one["score"])
    return {
        "user_id": question.user_id,
        "predictions": predictions,
        "ranked_items": [one["item_id"] for one in ranked],
        "latency_ms": (time.perf_counter() - started) * 1e3,
        "model_version": "1",
    }
