"""A span for each request that the API answers. To be imported only where traces are on (:mod:`http_port.tracing`)."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from http_port.tracing import Tracing, caller


class TraceRequests:
    """ASGI middleware around everything else of one port.

    With ``follows_callers`` a request belongs to the trace that its headers name. Only gateways may say so: anybody
    else could have all of theirs sampled.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing, *, follows_callers: bool) -> None:
        self._app = app
        self._tracing = tracing
        self._follows_callers = follows_callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, in a span named by its route's template."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = caller(Headers(scope=scope)) if self._follows_callers else Context()
        with self._tracing.span("request", context, SpanKind.SERVER) as span:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            try:
                await self._app(scope, receive, watched)
            finally:
                route = getattr(scope.get("route"), "path", "unmatched")
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.request.method", scope["method"])
                span.set_attribute("http.route", route)
