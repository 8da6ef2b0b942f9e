"""The protocol's OpenAPI document: the client that was generated from it, and random requests after it.
`openapi.py http://HOST:PORT`."""

import importlib.util
import json
import pathlib
import sys

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.types import InferenceRequest, RequestInput, TensorData
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

base = sys.argv[1]


def generated_client():
    client = OpenInferenceClient(base_url=base)
    client.check_server_liveness()
    client.check_server_readiness()
    assert client.read_server_metadata().name == "tidegate"
    rows = RequestInput(name="x", shape=[1, 4], datatype="FP32", data=TensorData.parse_obj([1, 2, 3, 4]))
    request = InferenceRequest(id="9", inputs=[rows])
    for named, which in (({}, ""), ({"model_version": "1"}, "_version")):
        getattr(client, f"check_model{which}_readiness")("sums", **named)
        described = getattr(client, f"read_model{which}_metadata")("sums", **named)
        assert described.versions == ["1"] and described.inputs[0].shape == [-1, 4], described
        answer = getattr(client, f"model{which}_infer")("sums", **named, request=request)
        assert answer.id == "9" and answer.outputs[0].shape == [1, 1], answer


def document(file):
    """The document as MLServer brings it, without what it adds to the protocol and without two slips of its own."""
    found = importlib.util.find_spec("mlserver").submodule_search_locations[0]
    text = (pathlib.Path(found) / "rest/openapi" / file).read_text()
    document = json.loads(text.replace("#/components/enums/Datatype", "#/components/schemas/Datatype"))
    document["components"]["schemas"]["Datatype"] = {"type": "string"}
    if "TensorData" in document["components"]["schemas"]:
        document["components"]["schemas"]["TensorData"] = {"type": "array", "items": {}}
    added = ("infer_stream", "generate", "generate_stream", "load", "unload")
    document["paths"] = {path: item for path, item in document["paths"].items() if not path.endswith(added)}
    for item in document["paths"].values():
        for parameter in item.get("parameters", []):
            known = {"model_name": ["sums", "none"], "model_version": ["1", "9", "champion"]}
            parameter["schema"]["enum"] = known[parameter["name"]]
    return document


def random_requests(file):
    checks = [not_a_server_error, response_schema_conformance, content_type_conformance]
    count = 0
    for operation in schemathesis.openapi.from_dict(document(file)).get_all_operations():

        @given(case=operation.ok().as_strategy())
        @settings(
            max_examples=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def holds(case):
            case.call_and_validate(base_url=base, checks=checks)

        holds()
        count += 1
    return count


generated_client()
assert random_requests("dataplane.json") == 9
assert random_requests("model_repository.json") == 1
