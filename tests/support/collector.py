"""An OTLP collector: takes traces over HTTP and keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from http_port.serve import serve

PATH = "/v1/traces"


@dataclass(frozen=True, slots=True)
class Exported:
    """One span, with the process that sent it."""

    service: str
    instance: str
    name: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    attributes: dict[str, str]
    begin_ns: int
    end_ns: int


class Collector:
    """What has been received; ``bodies`` as it came."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []
        self.spans: list[Exported] = []

    def named(self, name: str) -> list[Exported]:
        """Return the spans of this name."""
        return [span for span in self.spans if span.name == name]

    def children(self, parent: Exported) -> dict[str, Exported]:
        """Return the spans right under ``parent``, by name."""
        return {span.name: span for span in self.spans if span.parent_id == parent.span_id}

    async def take(self, request: Request) -> Response:
        body = await request.body()
        self.bodies.append(body)
        message = ExportTraceServiceRequest.FromString(body)
        for resource in message.resource_spans:
            of = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_exported(of, span) for span in scope.spans]
        return Response(ExportTraceServiceResponse().SerializeToString(), media_type="application/x-protobuf")


def _exported(of: dict[str, str], span: ProtoSpan) -> Exported:
    return Exported(
        of["service.name"],
        of["service.instance.id"],
        span.name,
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        {each.key: str(each.value).strip() for each in span.attributes},
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    """Serve a collector; its ``url`` is where to send traces."""
    collector = Collector()
    app = Starlette(routes=[Route(PATH, collector.take, methods=["POST"])])
    async with serve(app, "127.0.0.1", 0) as base_url:
        collector.url = base_url + PATH
        yield collector
