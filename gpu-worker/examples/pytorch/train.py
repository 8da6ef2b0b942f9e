"""Trains a network in PyTorch and leaves it as ONNX: a trainer by the contract of `train.command`."""

import csv
import json
import os

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper


def say(**line):
    print(json.dumps(line), flush=True)


def read(path, device):
    with open(path, newline="") as file:
        _header, *rows = csv.reader(file)
    table = torch.tensor([[float(value) for value in row] for row in rows], device=device)
    return table[:, :-1], table[:, -1]


def auc(scores, labels):
    """The chance that a row of class 1 scores above one of class 0; ties count half."""
    above = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    return ((above > 0).double() + 0.5 * (above == 0)).mean().item()


def export(layers, path):
    """Linear layers with ReLU between them, and the sigmoid of the last."""
    nodes, constants, value = [], [], "features"
    for at, layer in enumerate(layers):
        for name, tensor in (("weight", layer.weight), ("bias", layer.bias)):
            constants.append(numpy_helper.from_array(tensor.detach().cpu().numpy(), f"{name}{at}"))
        nodes.append(helper.make_node("Gemm", [value, f"weight{at}", f"bias{at}"], [f"linear{at}"], transB=1))
        value = f"hidden{at}"
        kind = "Relu" if at + 1 < len(layers) else "Sigmoid"
        nodes.append(helper.make_node(kind, [f"linear{at}"], [value]))
    constants.append(helper.make_tensor("flat", TensorProto.INT64, [1], [-1]))
    nodes.append(helper.make_node("Reshape", [value, "flat"], ["score"]))
    port = helper.make_tensor_value_info
    inputs = [port("features", TensorProto.FLOAT, ["N", layers[0].in_features])]
    graph = helper.make_graph(nodes, "network", inputs, [port("score", TensorProto.FLOAT, ["N"])], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def main():
    with open(os.environ["TIDEGATE_JOB"]) as file:
        job = json.load(file)
    parameters = job["parameters"]
    epochs, hidden = parameters.get("epochs", 20), parameters.get("hidden", 32)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(parameters.get("seed", 42))
    train, validation = (read(job["inputs"][name], device) for name in ("train.csv", "validation.csv"))
    layers = torch.nn.ModuleList([torch.nn.Linear(train[0].shape[1], hidden), torch.nn.Linear(hidden, 1)]).to(device)
    optimiser = torch.optim.Adam(layers.parameters(), lr=parameters.get("learning_rate", 0.01))

    def logits(features):
        return layers[1](layers[0](features).relu()).flatten()

    kept, first = os.path.join(job["checkpoint"], "state.pt"), 0
    if os.path.exists(kept):
        state = torch.load(kept, map_location=device)
        first = state["epoch"]
        layers.load_state_dict(state["layers"])
        optimiser.load_state_dict(state["optimiser"])

    for epoch in range(first, epochs):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits(train[0]), train[1])
        loss.backward()
        optimiser.step()
        state = {"epoch": epoch + 1, "layers": layers.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save(state, kept + ".new")
        os.replace(kept + ".new", kept)
        with torch.no_grad():
            scored = auc(logits(validation[0]), validation[1])
        measured = {"train_log_loss": loss.item(), "validation_auc": scored}
        say(epoch=epoch + 1, of=epochs, metrics=measured, checkpoint=True)

    export(layers, os.path.join(job["outputs"], "model.onnx"))
    with torch.no_grad():
        scored = auc(logits(validation[0]), validation[1])
    say(outputs={"metrics": {"validation": {"auc": scored}}, "epochs": epochs})


main()
