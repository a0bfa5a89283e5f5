"""The admin application of every process: ``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from nearby.settings import Secret


def admin_app(
    registry: CollectorRegistry,
    not_ready: Callable[[], str | None],
    routes: Sequence[BaseRoute] = (),
    *,
    trouble: Callable[[], str | None] = lambda: None,
) -> Starlette:
    """Return the admin application of a process.

    ``not_ready`` says why the process should get no new work, or ``None`` if it should. Healthy means only
    that the event loop answers: a dead backend must not get the process restarted. Nor does it make it unready, or one
    backend would take all its processes out of service: ``trouble`` tells of it in the second line of a good answer.
    """

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        reason = not_ready()
        if reason is not None:
            return PlainTextResponse(f"{reason}\n", 503)
        told = trouble()
        return PlainTextResponse("ready\n" if told is None else f"ready\n{told}\n")

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics), *routes])


def problem(status: int, code: str, detail: str) -> Response:
    """Return the error of a call on an admin port (RFC 9457)."""
    body = {"type": "about:blank", "status": status, "code": code, "detail": detail}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return Response(msgspec.json.encode(body), status, headers, media_type="application/problem+json")


def bearer_matches(authorization: str | None, expected: Secret) -> bool:
    """Whether an ``Authorization`` header carries the ``expected`` bearer token, compared in constant time."""
    scheme, _, token = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), expected.value.encode())
