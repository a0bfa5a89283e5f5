"""The spans of a gateway: a client's arrival step by step, a report until its ack, and its delivery elsewhere.

To be imported only where traces are on; see :mod:`http_port.tracing`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from opentelemetry.trace import Span, SpanKind

from http_port.tracing import Tracing
from ws_gateway.reports import Outcome

Done = Callable[[Outcome], None]


class GatewayTracing:
    """Traces a sample of what one gateway does."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._heard: list[Span] = []

    def step(self, name: str) -> AbstractContextManager[Span]:
        """Let the body be a step, of the present one if there is one."""
        return self._tracing.span(name)

    def report(self, channel: bytes, recorded_at_ms: int, done: Done) -> Done:
        """Return ``done``, or what ends a span besides if this report on ``channel`` is sampled."""
        called = self._tracing.of_report(channel, recorded_at_ms)
        if called is None:
            return done
        span = self._tracing.begin("report", called)

        def traced(outcome: Outcome) -> None:
            done(outcome)
            span.set_attribute("nearby.shown", outcome.shown)
            span.set_attribute("nearby.stored", outcome.stored)
            span.end()

        return traced

    def heard(self, channel: bytes, recorded_at_ms: int) -> None:
        """A shard has brought this location: its span goes on until :meth:`flushed`."""
        cause = self._tracing.of_report(channel, recorded_at_ms)
        if cause is not None:
            self._heard.append(self._tracing.begin_after("deliver", cause, SpanKind.CONSUMER))

    def flushed(self) -> None:
        """What was heard has been sent to its viewers."""
        for span in self._heard:
            span.end()
        self._heard.clear()
