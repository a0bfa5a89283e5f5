"""Spans for OpenTelemetry, sent to a collector by OTLP over HTTP. Off unless ``NEARBY_TRACES_URL`` is set.

To be imported only where it is on: what it brings along takes memory that other processes need not have. No attribute
of a span names a user or a place, and neither does what becomes of an exception: of those its type alone is told.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from nearby.settings import Secret, TracesSettings

EXPORT_TIMEOUT_S = 2.0

_propagator = TraceContextTextMapPropagator()


@asynccontextmanager
async def open_tracing(settings: TracesSettings, service: str, instance: str, shared: Secret) -> AsyncIterator[Tracing]:
    """Yield the tracing of process ``instance``; what has been traced is sent at the end at the latest.

    All processes that work on one report are given the same ``shared`` secret, from which the ids of its trace follow.
    """
    ids = _Ids()
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.part)),
        resource=Resource({"service.name": service, "service.instance.id": instance}),
        shutdown_on_exit=False,
        id_generator=ids,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.url, timeout=EXPORT_TIMEOUT_S)))
    try:
        yield Tracing(provider, ids, settings.part, shared)
    finally:
        await asyncio.to_thread(provider.shutdown)


class Tracing:
    """Begins spans; which traces are sampled follows from their ids alone."""

    def __init__(self, provider: TracerProvider, ids: _Ids, part: float, shared: Secret) -> None:
        self._tracer = provider.get_tracer("nearby")
        self._ids = ids
        self._bound = TraceIdRatioBased.get_bound_for_rate(part)
        self._key = hashlib.sha256(b"traces " + shared.value.encode()).digest()

    @contextmanager
    def span(self, name: str, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
        """Let the body be a span under that of ``context``, by default the present one."""
        with self._tracer.start_as_current_span(
            name, context, kind, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    def of_report(self, channel: bytes, recorded_at_ms: int) -> SpanContext | None:
        """Return what the span of a report is called by every process that hears of it; ``None`` if it is not sampled.

        So nothing needs to travel with the report. Without the key nobody can tell from the ids whose it is, or have
        their own reports sampled.
        """
        digest = hashlib.blake2b(b"%s %d" % (channel, recorded_at_ms), digest_size=24, key=self._key).digest()
        trace_id = int.from_bytes(digest[:16], "big")
        if trace_id & TraceIdRatioBased.TRACE_ID_LIMIT >= self._bound:
            return None
        return SpanContext(trace_id, int.from_bytes(digest[16:], "big"), True, TraceFlags(TraceFlags.SAMPLED))

    def begin(self, name: str, called: SpanContext) -> Span:
        """Begin the first span of a trace, under the ids in ``called``."""
        with self._ids.chosen(called):
            return self._tracer.start_span(name, Context())

    def begin_after(self, name: str, cause: SpanContext, kind: SpanKind) -> Span:
        """Begin a span whose ``cause`` is in another process."""
        return self._tracer.start_span(name, set_span_in_context(NonRecordingSpan(cause), Context()), kind)


def carried() -> dict[str, str]:
    """Return the headers by which the present span goes along with a request; none without a sampled one."""
    headers: dict[str, str] = {}
    if get_current_span().get_span_context().trace_flags.sampled:
        _propagator.inject(headers)
    return headers


def caller(headers: Mapping[str, str]) -> Context:
    """Return the context of the span that came along with ``headers``."""
    return _propagator.extract(headers, Context())


class _Ids(RandomIdGenerator):
    """Random ids, but for the span that begins within :meth:`chosen`."""

    def __init__(self) -> None:
        self._called: SpanContext | None = None

    @contextmanager
    def chosen(self, called: SpanContext) -> Iterator[None]:
        self._called = called
        try:
            yield
        finally:
            self._called = None

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self._called is None else self._called.trace_id

    def generate_span_id(self) -> int:
        return super().generate_span_id() if self._called is None else self._called.span_id
