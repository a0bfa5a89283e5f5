"""``GET /admin/v1/explain``: the question of operators why one user does or does not see another, on any admin port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from http_port import audit
from http_port.admin import bearer_matches, problem
from nearby.errors import NotFound, StoreUnavailable
from nearby.settings import Secret

PATH = "/admin/v1/explain"
MAX_NAME_CHARACTERS = 64

Explain = Callable[[str, str], Awaitable[msgspec.Struct]]
"""Answers for a viewer and a friend, by user id or as the answerer knows them. Never with coordinates."""


def explain_route(explain: Explain, token: Secret) -> Route:
    """Return the route that answers by ``explain`` whoever shows ``token``. Every call leaves an audit line."""

    async def endpoint(request: Request) -> Response:
        status, outcome, body = await _answer(request, explain, token)
        audit.record(request, status, outcome)
        if status == 200:
            return Response(body, status, media_type="application/json")
        return problem(status, outcome, body.decode())

    return Route(PATH, endpoint, methods=["GET"])


async def _answer(request: Request, explain: Explain, token: Secret) -> tuple[int, str, bytes]:
    """Return the status, what the audit says, and the body: of an error, its detail."""
    if not bearer_matches(request.headers.get("Authorization"), token):
        return 401, "unauthorized", b"show the admin token"
    names = [request.query_params.get(name, "") for name in ("viewer", "friend")]
    if not all(0 < len(name) <= MAX_NAME_CHARACTERS for name in names):
        return 422, "invalid_request", b"name a viewer and a friend"
    try:
        return 200, "answered", msgspec.json.encode(await explain(names[0], names[1]))
    except NotFound as error:
        return 404, error.code, error.detail.encode()
    except StoreUnavailable as error:
        return 503, "unavailable", str(error).encode()
