"""Which reports are traced, what they are called, and what it costs where nothing is."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AsyncExitStack

import pytest
from opentelemetry.trace import SpanContext, get_current_span

from http_port.tracing import Tracing, caller, carried, open_tracing
from nearby.settings import Secret, TracesSettings
from tests.support.collector import running_collector

SHARED = Secret("shared by all gateways")
CHANNEL = b"loc:00000000-0000-4000-8000-000000000001"


async def opened(stack: AsyncExitStack, url: str, part: float, shared: Secret = SHARED) -> Tracing:
    return await stack.enter_async_context(open_tracing(TracesSettings(url, part), "nearby-test", "test-1", shared))


async def test_every_process_calls_a_report_the_same_and_nobody_else_can() -> None:
    async with running_collector() as collector, AsyncExitStack() as stack:
        here, there = [await opened(stack, collector.url, 1.0) for _ in range(2)]
        stranger = await opened(stack, collector.url, 1.0, Secret("shared by nobody else"))
        called = here.of_report(CHANNEL, 1_000)
        assert called == there.of_report(CHANNEL, 1_000)
        assert called != stranger.of_report(CHANNEL, 1_000)
        assert called != here.of_report(CHANNEL, 1_001)


@pytest.mark.parametrize(("part", "low", "high"), [(0.0, 0, 0), (0.1, 800, 1_200), (1.0, 10_000, 10_000)])
async def test_a_part_of_the_reports_is_traced(part: float, low: int, high: int) -> None:
    async with running_collector() as collector, AsyncExitStack() as stack:
        tracing = await opened(stack, collector.url, part)
        traced = sum(tracing.of_report(CHANNEL, number) is not None for number in range(10_000))
        assert low <= traced <= high


async def test_a_span_goes_along_with_requests_only_if_it_is_sampled() -> None:
    async with running_collector() as collector, AsyncExitStack() as stack:
        everything, nothing = await opened(stack, collector.url, 1.0), await opened(stack, collector.url, 0.0)
        assert carried() == {}
        with nothing.span("connect"):
            assert carried() == {}
        with everything.span("connect") as span:
            headers = carried()
            there = get_current_span(caller(headers)).get_span_context()
            assert there.trace_id == span.get_span_context().trace_id


async def test_of_an_error_the_type_is_told_and_not_what_it_says() -> None:
    async with running_collector() as collector:
        async with AsyncExitStack() as stack:
            tracing = await opened(stack, collector.url, 1.0)
            with pytest.raises(ValueError, match=r"41\.88"), tracing.span("connect"):
                raise ValueError("at 41.88")
        assert b"41.88" not in b"".join(collector.bodies)
        assert b"ValueError" in b"".join(collector.bodies)


async def test_the_first_span_has_the_ids_that_others_expect() -> None:
    async with running_collector() as collector:
        async with AsyncExitStack() as stack:
            tracing = await opened(stack, collector.url, 1.0)
            called = tracing.of_report(CHANNEL, 1_000)
            assert isinstance(called, SpanContext)
            tracing.begin("report", called).end()
            with tracing.span("another"):
                pass
        [report] = collector.named("report")
        assert (report.trace_id, report.span_id) == (
            called.trace_id.to_bytes(16, "big"),
            called.span_id.to_bytes(8, "big"),
        )
        assert collector.named("another")[0].trace_id != report.trace_id


@pytest.mark.parametrize("module", ["ws_gateway.app", "api.app"])
def test_where_traces_are_off_their_libraries_are_not_even_loaded(module: str) -> None:
    code = f"import sys, {module}; sys.exit('opentelemetry.exporter' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
