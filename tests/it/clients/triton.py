"""Every call of the protocol by NVIDIA's own client: `triton.py http|grpc HOST:PORT`."""

import sys

import numpy as np
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

kind, address = sys.argv[1:]
if kind == "http":
    import tritonclient.http as triton
else:
    import tritonclient.grpc as triton

NAMES = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 BYTES".split()


def as_dict(message):
    from google.protobuf.json_format import MessageToDict

    return message if isinstance(message, (dict, list)) else MessageToDict(message, preserving_proto_field_name=True)


def values(name):
    if name == "BYTES":
        return np.array(["tide".encode(), "gate ü".encode(), b""], dtype=np.object_)
    if name == "BOOL":
        return np.array([True, False, True])
    kind = np.dtype(triton_to_np_dtype(name))
    if kind.kind == "f":
        return np.array([0.5, -2.0, 1e3], dtype=kind)
    return np.array([0, np.iinfo(kind).min, np.iinfo(kind).max], dtype=kind)


def tensors(binary):
    inputs = []
    for name in NAMES:
        tensor = triton.InferInput(f"in_{name}", [3], name)
        # JSON has no form for FP16.
        options = {"binary_data": binary or name == "FP16"} if kind == "http" else {}
        tensor.set_data_from_numpy(values(name), **options)
        inputs.append(tensor)
    return inputs


def outputs(binary):
    options = lambda name: {"binary_data": binary or name == "FP16"} if kind == "http" else {}
    return [triton.InferRequestedOutput(f"out_{name}", **options(name)) for name in NAMES]


def check(result):
    for name in NAMES:
        found = result.as_numpy(f"out_{name}")
        wanted = values(name)
        if name == "BYTES":
            found = np.array([text if isinstance(text, bytes) else text.encode() for text in found], dtype=np.object_)
        assert found.dtype == wanted.dtype, (name, found.dtype)
        assert (found == wanted).all(), (name, found)


def refused(what, call):
    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    raise AssertionError(f"{what} was not refused")


def sums(rows):
    tensor = triton.InferInput("x", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return [tensor]


client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready()
metadata = as_dict(client.get_server_metadata())
assert metadata["name"] == "tidegate" and "model_repository" in metadata["extensions"], metadata

assert client.is_model_ready("types") and client.is_model_ready("types", "1")
metadata = as_dict(client.get_model_metadata("types"))
assert metadata["versions"] == ["1"] and metadata["platform"] == "onnxruntime_onnx", metadata
assert [port["datatype"] for port in metadata["inputs"]] == NAMES, metadata
assert metadata["outputs"][0]["name"] == "out_BOOL" and [int(n) for n in metadata["outputs"][0]["shape"]] == [-1]

check(client.infer("types", tensors(True)))
for binary in (True, False):
    result = client.infer("types", tensors(binary), model_version="1", outputs=outputs(binary), request_id="seven")
    check(result)
    response = as_dict(result.get_response())
    assert (response["id"], response["model_name"], response["model_version"]) == ("seven", "types", "1"), response

result = client.infer("sums", sums(np.ones([2, 4], np.float32)), parameters={"who": "a test"}, timeout=5_000_000)
assert (result.as_numpy("sum") == [[4], [4]]).all()

says = refused("another shape", lambda: client.infer("sums", sums(np.ones([2, 5], np.float32))))
assert "has shape [2, 5], allowed is [N, 4]" in says, says
says = refused("an unknown model", lambda: client.infer("none", sums(np.ones([2, 4], np.float32))))
assert says.startswith("404 ") if kind == "http" else "NOT_FOUND" in says, says
says = refused("an unknown version", lambda: client.get_model_metadata("sums", "9"))
assert "has no version 9" in says, says
top = triton.InferRequestedOutput("sum", class_count=2)
says = refused("a classification", lambda: client.infer("sums", sums(np.ones([2, 4], np.float32)), outputs=[top]))
assert "`classification` belongs to an extension that is not offered" in says, says


def states():
    index = as_dict(client.get_model_repository_index())
    index = index if isinstance(index, list) else index["models"]
    return {(model["name"], model["version"]): model["state"] for model in index}


assert states() == {("types", "1"): "READY", ("sums", "1"): "READY"}, states()
client.unload_model("sums")
assert states()[("sums", "1")] == "UNAVAILABLE", states()
says = refused("an unloaded model", lambda: client.infer("sums", sums(np.ones([1, 4], np.float32))))
assert "model `sums` is unloaded" in says, says
client.load_model("sums")
assert states()[("sums", "1")] == "READY", states()
assert client.is_model_ready("sums")
says = refused("a configuration of its own", lambda: client.load_model("sums", config="{}"))
assert "parameter `config` is not known" in says, says

if kind == "http":
    says = refused("a compressed body", lambda: client.infer("sums", sums(np.ones([1, 4], np.float32)), request_compression_algorithm="gzip"))
    assert says.startswith("415 "), says
else:
    # Typed contents, which this client reads but does not write.
    from tritonclient.grpc import service_pb2, service_pb2_grpc
    import grpc

    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address))
    request = service_pb2.ModelInferRequest(model_name="sums", id="8")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    tensor.contents.fp32_contents.extend([1, 2, 3, 4])
    answer = stub.ModelInfer(request, timeout=30)
    assert answer.id == "8" and list(answer.outputs[0].contents.fp32_contents) == [10], answer
    assert not answer.raw_output_contents, answer
