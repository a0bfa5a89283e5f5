"""``/admin/v1/drain``: what operators may do to a gateway, on the admin port alone. Every call leaves an audit line."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from http_port.admin import bearer_matches
from nearby.errors import StoreUnavailable
from nearby.settings import DrainSettings, Secret
from ws_gateway.drain import Drain
from ws_gateway.drain_plan import Orders

audit = logging.getLogger("audit")
"""One line per call: ``audit {"call", "peer", "actor", "reason", "status", "outcome"}``, whatever the log level."""
audit.setLevel(logging.INFO)

PATH = "/admin/v1/drain"
ACTOR_HEADER = "X-Actor"
MAX_BODY_BYTES = 4096

_Text = Annotated[str, msgspec.Meta(max_length=200)]


class DrainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a POST. What is left out comes from the gateway's settings.

    ``phase``: ``mark`` only lets no new client come; ``start`` also sends the present ones away.
    """

    phase: Literal["mark", "start"] = "start"
    rate_per_s: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] | None = None
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None
    actor: _Text = ""
    reason: _Text = ""


class _Refused(Exception):
    """A call that is answered with an error."""

    def __init__(self, status: HTTPStatus, code: str, detail: str) -> None:
        self.status = status
        self.code = code
        self.detail = detail


class _Call:
    """One call while it is answered, with what the audit says of it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.actor = request.headers.get(ACTOR_HEADER, "")[:200]
        self.reason = ""

    def record(self, status: int, outcome: str) -> None:
        client = self.request.client
        entry = {
            "call": f"{self.request.method} {self.request.url.path}",
            "peer": client.host if client else "",
            "actor": self.actor,
            "reason": self.reason,
            "status": status,
            "outcome": outcome,
        }
        audit.info("audit %s", json.dumps(entry))


def drain_route(drain: Drain, settings: DrainSettings, token: Secret) -> Route:
    """Return the route by which ``drain`` is started, watched and cancelled by whoever shows ``token``."""

    async def endpoint(request: Request) -> Response:
        call = _Call(request)
        try:
            if not bearer_matches(request.headers.get("Authorization"), token):
                raise _Refused(HTTPStatus.UNAUTHORIZED, "unauthorized", "show the admin token")
            outcome, status = await _answer(call, drain, settings)
        except _Refused as refused:
            call.record(refused.status, refused.code)
            return _problem(refused)
        call.record(status, outcome)
        return Response(msgspec.json.encode(drain.status()), status, media_type="application/json")

    return Route(PATH, endpoint, methods=["POST", "GET", "DELETE"])


async def _answer(call: _Call, drain: Drain, settings: DrainSettings) -> tuple[str, HTTPStatus]:
    """Carry a call out; return what became of it, for the audit, and the status."""
    match call.request.method:
        case "POST":
            return await _post(call, drain, settings)
        case "DELETE":
            if not await drain.cancel():
                raise _Refused(HTTPStatus.CONFLICT, "too_late", "clients have been sent away already")
            return "cancelled", HTTPStatus.OK
        case _:
            return "read", HTTPStatus.OK


async def _post(call: _Call, drain: Drain, settings: DrainSettings) -> tuple[str, HTTPStatus]:
    wanted = await _body(call.request)
    call.actor, call.reason = wanted.actor or call.actor, wanted.reason
    orders = Orders(
        wanted.rate_per_s or settings.rate_per_s,
        wanted.deadline_s or settings.deadline_s,
        settings.grace_s,
        settings.notice_s,
        call.actor,
        wanted.reason,
    )
    try:
        if wanted.phase == "mark":
            changed, outcome = await drain.mark(orders), "marked"
        else:
            changed, outcome = await drain.start(orders), "started"
    except StoreUnavailable as error:
        raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", str(error)) from error
    return (outcome, HTTPStatus.ACCEPTED) if changed else (f"{drain.state.value} already", HTTPStatus.OK)


async def _body(request: Request) -> DrainRequest:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_big", f"at most {MAX_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(bytes(data) or b"{}", type=DrainRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, "invalid_request", str(error)) from error


def _problem(refused: _Refused) -> Response:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": refused.status.phrase,
        "status": refused.status.value,
        "code": refused.code,
        "detail": refused.detail,
    }
    headers = {"WWW-Authenticate": "Bearer"} if refused.status is HTTPStatus.UNAUTHORIZED else None
    return Response(json.dumps(body), refused.status, headers, media_type="application/problem+json")
