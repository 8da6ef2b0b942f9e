"""A collector: takes traces by OTLP over HTTP, decodes them by OpenTelemetry's own protobufs, and prints each span.

The first line says which port it took. A request that the protobufs do not know is refused, and printed as an error.
"""

import base64
import http.server
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2


def with_bytes(spans):
    """OTLP writes ids in hexadecimal where protobuf's JSON has base64."""
    for span in spans:
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()


def decoded(body):
    request = json.loads(body)
    for resource in request["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            with_bytes(scope["spans"])
    return json_format.ParseDict(request, trace_service_pb2.ExportTraceServiceRequest())


def plain(attributes):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def told(resource, span):
    if len(span.trace_id) != 16 or len(span.span_id) != 8 or len(span.parent_span_id) not in (0, 8):
        raise ValueError(f"ids of a wrong length in {span}")
    return {
        "service": plain(resource.attributes)["service.name"],
        "trace": span.trace_id.hex(),
        "span": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "name": span.name,
        "kind": trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": plain(span.attributes),
        "failed": span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        "message": span.status.message,
        "events": {event.name: plain(event.attributes) for event in span.events},
    }


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            if (self.path, self.headers["content-type"]) != ("/v1/traces", "application/json"):
                raise ValueError(f"{self.path} with {self.headers['content-type']}")
            request = decoded(body)
            spans = [
                told(resource.resource, span)
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        except Exception as error:
            self.answer(400, [{"error": repr(error)}])
        else:
            self.answer(200, spans)

    def answer(self, status, lines):
        for line in lines:
            sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        body = b"{}"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
print(json.dumps({"port": server.server_port}), flush=True)
server.serve_forever()
