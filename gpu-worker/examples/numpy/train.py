"""Fits a logistic regression with NumPy and leaves it as ONNX: a trainer by the contract of `train.command`."""

import json
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def say(**line):
    print(json.dumps(line), flush=True)


def read(path):
    table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2, dtype=np.float64)
    return table[:, :-1], table[:, -1]


def auc(scores, labels):
    """The chance that a row of class 1 scores above one of class 0; ties count half."""
    above = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


def export(weights, bias, path):
    port, constant = helper.make_tensor_value_info, numpy_helper.from_array
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    inputs = [port("features", TensorProto.FLOAT, ["N", len(weights)])]
    outputs = [port("score", TensorProto.FLOAT, ["N"])]
    constants = [constant(weights.astype(np.float32), "weights"), constant(np.float32([bias]), "bias")]
    graph = helper.make_graph(nodes, "logistic", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def main():
    with open(os.environ["TIDEGATE_JOB"]) as file:
        job = json.load(file)
    parameters = job["parameters"]
    epochs, rate = parameters.get("epochs", 20), parameters.get("learning_rate", 0.5)
    (features, labels), validation = (read(job["inputs"][name]) for name in ("train.csv", "validation.csv"))
    kept = os.path.join(job["checkpoint"], "state.npz")
    if os.path.exists(kept):
        state = np.load(kept)
        first, weights, bias = int(state["epoch"]), state["weights"], float(state["bias"])
    else:
        random = np.random.default_rng(parameters.get("seed", 42))
        first, weights, bias = 0, random.normal(0, 0.01, features.shape[1]), 0.0

    for epoch in range(first, epochs):
        chance = 1 / (1 + np.exp(-(features @ weights + bias)))
        loss = -np.mean(np.log(np.where(labels == 1, chance, 1 - chance) + 1e-12))
        weights -= rate * features.T @ (chance - labels) / len(labels)
        bias -= rate * float(np.mean(chance - labels))
        with open(kept + ".new", "wb") as file:
            np.savez(file, epoch=epoch + 1, weights=weights, bias=bias)
        os.replace(kept + ".new", kept)
        measured = {"train_log_loss": float(loss), "validation_auc": auc(validation[0] @ weights, validation[1])}
        say(epoch=epoch + 1, of=epochs, metrics=measured, checkpoint=True)

    export(weights, bias, os.path.join(job["outputs"], "model.onnx"))
    scored = auc(validation[0] @ weights, validation[1])
    say(outputs={"metrics": {"validation": {"auc": scored}}, "epochs": epochs})


main()
