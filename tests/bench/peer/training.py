"""Trains two towers with Tidegate's worker and with PyTorch on the same machine, data, batch and number of epochs, and
prints what each took and how good it is on the test split.

    python3 training.py --worker PATH/tidegate-worker --data FOLDER [--device cuda]

FOLDER has `dataset.json`, `train.parquet`, `validation.parquet` and `test.parquet` as the app `feed-ranking` writes them;
`cargo xtask bench training` makes one. Needs `torch`, `numpy`, `pyarrow` and `onnxruntime`. For `--device cuda` the worker must be
built with its feature `cuda`.
"""

import argparse
import copy
import json
import os
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow.parquet as parquet

# What `train.two-tower` takes where nothing is said.
WIDTH, TOWERS, RATE, BATCH = 128, [256, 128], 1e-3, 1024
ID_DROPOUT, DROPOUT, DECAY, TABLE_DECAY, DEVIATION = 0.5, 0.3, 0.01, 0.1, 0.01
CLIP, EPSILON, SCORED = 6.0, 1e-5, 4096


def auc(scores, labels):
    """By the mean rank of those of class 1; ties share their ranks."""
    _, group, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[group]
    positives = int(labels.sum())
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives)))


class Split:
    def __init__(self, folder, name, manifest):
        table = parquet.read_table(os.path.join(folder, f"{name}.parquet"))
        column = lambda name: table[name].to_numpy()
        features = lambda side: np.stack([column(f"{side}.{name}") for name in manifest[f"{side}_features"]], 1)
        self.ids = [column("user_id"), column("item_id")]
        self.features = [features("user").astype(np.float32), features("item").astype(np.float32)]
        self.labels = column("label").astype(np.float32)


# --- Tidegate -------------------------------------------------------------------------------------------------------


def by_worker(arguments, test):
    """Stands in for the host: hands the worker one job, its files from the folder, and takes what it makes."""
    job = {
        "model": "ranker", "max_epochs": arguments.epochs, "patience": arguments.epochs, "device": arguments.device,
        "dataset": {"bucket": "data", "prefix": "two-towers"}, "output": {"bucket": "models", "prefix": "out"},
        # PyTorch takes all cores by itself.
        "replicas": len(os.sched_getaffinity(0)) if arguments.device == "cpu" else 1,
    }
    waiting, ended, made = [job], threading.Event(), {}

    class Host(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status=200, body=b"{}"):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self):
            return self.rfile.read(int(self.headers.get("content-length", 0)))

        def do_POST(self):
            body, call = json.loads(self.body() or b"{}"), self.path.rsplit("/", 1)[1]
            if call == "lease" and waiting:
                given = {"id": "1", "kind": "train.two-tower", "config": waiting.pop(), "attempt": 1, "run": "r"}
                lease = {"token": "t", "expires_ms": 15_000}
                return self.answer(body=json.dumps({"job": given, "lease": lease}).encode())
            if call == "lease":
                time.sleep(0.2)
                return self.answer(204, b"")
            if call in ("complete", "fail"):
                made["outputs"] = body
                ended.set()
            self.answer()

        def do_GET(self):
            path = os.path.join(arguments.data, os.path.basename(self.path))
            if not self.path.startswith("/worker/v1/objects/data/") or not os.path.exists(path):
                return self.answer(404)
            with open(path, "rb") as file:
                self.answer(body=file.read())

        def do_PUT(self):
            made[self.path.rsplit("/", 1)[1]] = self.body()
            self.answer()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    # A worker that is told to end hangs up on its last call.
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told = {"TIDEGATE_HOST": f"http://127.0.0.1:{server.server_port}", "TIDEGATE_WORKER_TOKEN": "w", "RUST_LOG": "warn"}
    command = [arguments.worker, "--standalone", "--only", "jobs"]
    worker = subprocess.Popen(command, env={**os.environ, **told}, stdin=subprocess.DEVNULL)
    try:
        while not ended.wait(0.2):
            if worker.poll() is not None:
                raise SystemExit(f"the worker ended with {worker.returncode}")
    finally:
        worker.terminate()
        worker.wait()
        server.shutdown()
    if "outputs" not in made["outputs"]:
        raise SystemExit(f"the worker's job failed: {made['outputs']}")
    outputs = made["outputs"]["outputs"]
    return {
        "name": "Tidegate", "seconds": outputs["seconds"], "epochs": outputs["epochs"],
        "auc": auc(scores_of(made["model.onnx"], test), test.labels),
    }


def scores_of(model, split):
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = ("user_id", "item_id"), ("user_features", "item_features")
    parts = []
    for at in range(0, len(split.labels), SCORED):
        rows = slice(at, at + SCORED)
        feed = {name: values[rows] for name, values in zip(names[0], split.ids)}
        feed |= {name: values[rows] for name, values in zip(names[1], split.features)}
        parts.append(session.run(["score"], feed)[0])
    return np.concatenate(parts)


# --- PyTorch --------------------------------------------------------------------------------------------------------


def by_torch(arguments, splits, manifest, sparse):
    import torch
    from torch import nn

    torch.manual_seed(42)
    device = torch.device(arguments.device)
    known = [np.unique(ids) for ids in splits["train"].ids]

    def tensors(split):
        """Rows of the tables, 0 for ids that the training split does not have, and normalised features."""
        sides = []
        for side, (ids, features) in enumerate(zip(split.ids, split.features)):
            at = np.searchsorted(known[side], ids).clip(max=len(known[side]) - 1)
            rows = np.where(known[side][at] == ids, at + 1, 0)
            scaling = manifest["normalisation"][("user", "item")[side]]
            mean, deviation = np.float32(scaling["mean"]), np.float32(scaling["std"])
            scaled = (features - mean) / np.where(deviation > 1e-12, deviation, 1)
            sides.append((torch.tensor(rows, device=device), torch.tensor(scaled.clip(-CLIP, CLIP), device=device)))
        return sides, torch.tensor(split.labels, device=device)

    class Side(nn.Module):
        def __init__(self, rows, features):
            super().__init__()
            self.table = nn.Embedding(rows, WIDTH, sparse=sparse)
            nn.init.normal_(self.table.weight, std=DEVIATION)
            hidden = nn.Linear(WIDTH + features, TOWERS[0])
            self.layers = nn.Sequential(hidden, nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(*TOWERS))

        def forward(self, rows, features):
            if self.training:
                rows = rows.masked_fill(torch.rand(rows.shape, device=device) < ID_DROPOUT, 0)
            return self.layers(torch.cat([self.table(rows), features], 1))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [features.shape[1] for features in splits["train"].features]
            self.sides = nn.ModuleList(Side(len(ids) + 1, width) for ids, width in zip(known, widths))
            self.bias = nn.Parameter(torch.zeros(1))

        def forward(self, sides):
            user, item = (side(*given) for side, given in zip(self.sides, sides))
            return (user * item).sum(1) + self.bias

    data = {name: tensors(split) for name, split in splits.items()}
    model = Model().to(device)
    tables = [side.table.weight for side in model.sides]
    rest = [tensor for tensor in model.parameters() if all(tensor is not table for table in tables)]
    towers = {"params": rest, "weight_decay": DECAY}
    if sparse:
        optimisers = [torch.optim.AdamW([towers], RATE, eps=EPSILON), torch.optim.SparseAdam(tables, RATE, eps=EPSILON)]
    else:
        both = [towers, {"params": tables, "weight_decay": TABLE_DECAY}]
        optimisers = [torch.optim.AdamW(both, RATE, eps=EPSILON)]

    def scored(name):
        model.eval()
        sides, _ = data[name]
        with torch.no_grad():
            count = len(splits[name].labels)
            parts = [
                model([(rows[at : at + SCORED], features[at : at + SCORED]) for rows, features in sides])
                for at in range(0, count, SCORED)
            ]
        return auc(torch.cat(parts).cpu().numpy(), splits[name].labels)

    sides, labels = data["train"]
    best, kept = -1.0, None
    begun = time.perf_counter()
    for _ in range(arguments.epochs):
        model.train()
        for batch in torch.randperm(len(labels), device=device).split(BATCH):
            for optimiser in optimisers:
                optimiser.zero_grad()
            logits = model([(rows[batch], features[batch]) for rows, features in sides])
            nn.functional.binary_cross_entropy_with_logits(logits, labels[batch]).backward()
            for optimiser in optimisers:
                optimiser.step()
        found = scored("validation")
        if found > best:
            best, kept = found, copy.deepcopy(model.state_dict())
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    model.load_state_dict(kept)
    optimiser = "SparseAdam" if sparse else "dense Adam"
    return {
        "name": f"PyTorch {torch.__version__}, {optimiser}", "seconds": seconds, "epochs": arguments.epochs,
        "auc": scored("test"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", required=True, help="the executable `tidegate-worker`")
    parser.add_argument("--data", required=True, help="the folder of the data set")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    arguments = parser.parse_args()
    with open(os.path.join(arguments.data, "dataset.json")) as file:
        manifest = json.load(file)
    splits = {name: Split(arguments.data, name, manifest) for name in ("train", "validation", "test")}
    rows = len(splits["train"].labels)
    measured = [by_worker(arguments, splits["test"])]
    measured += [by_torch(arguments, splits, manifest, sparse) for sparse in (False, True)]
    for one in measured:
        one["rate"] = rows * one["epochs"] / one["seconds"]
    if arguments.json:
        return print(json.dumps(measured))
    print(f"| two towers on {arguments.device}, batch {BATCH} | samples/s | Tidegate's ratio | test AUC |\n|---|---|---|---|")
    for one in measured:
        print(f"| {one['name']} | {one['rate']:,.0f} | {measured[0]['rate'] / one['rate']:.2f} | {one['auc']:.4f} |")


main()
