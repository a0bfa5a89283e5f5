"""Metrics of the API: requests by route template, so that no user id becomes a label, and erasures."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.eraser import Attempt, Eraser

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class RequestMetrics:
    """The collectors; one set per process, counted by :class:`CountRequests` on each port."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("route", "method")
        self.requests = Counter(
            "nearby_api_requests", "Requests answered, by route template.", (*labels, "status"), registry=registry
        )
        self.seconds = Histogram(
            "nearby_api_request_seconds",
            "Time from a request's head to the end of its answer.",
            labels,
            buckets=_BUCKETS_S,
            registry=registry,
        )


class ErasureCollector(Collector):
    """Reads the counters of the eraser."""

    def __init__(self, eraser: Eraser) -> None:
        self._eraser = eraser

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        attempts = CounterMetricFamily(
            "nearby_api_erasure_attempts", "Attempts at erasing what somebody deleted, by their end", labels=["end"]
        )
        for end in Attempt:
            attempts.add_metric([end.value], self._eraser.attempts[end])
        yield attempts


class CountRequests:
    """ASGI middleware around everything else of one port."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count it under its route; one that no route matched is ``unmatched``."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began_s = time.perf_counter()
        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(route, method, str(status)).inc()
            self._metrics.seconds.labels(route, method).observe(time.perf_counter() - began_s)
