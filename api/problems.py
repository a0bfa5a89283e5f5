"""Every error answer is a problem (RFC 9457, ``application/problem+json``) with a stable ``code``.

``type`` is always ``about:blank``: the title is then that of the status, and ``code`` says the rest. No answer
quotes what was sent, which may be a password, nor what a store said.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from nearby.errors import Conflict, NotAllowed, NotFound, QuotaSpent, SocialError, StoreUnavailable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1

_log = logging.getLogger(__name__)

_SOCIAL_STATUS: dict[type[SocialError], int] = {NotFound: 404, Conflict: 409, NotAllowed: 403, QuotaSpent: 429}
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class Problem(Exception):
    """An error answer: ``status``, a stable ``code``, a sentence for people, and headers to send along."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers
        super().__init__(f"{status} {code}")


class ProblemBody(BaseModel):
    """A problem as RFC 9457 has it. ``code`` is stable; ``detail`` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str


def not_authenticated(detail: str) -> Problem:
    """Return the answer to a request without a good access token (RFC 6750 §3)."""
    return Problem(401, "not_authenticated", detail, {"WWW-Authenticate": "Bearer"})


def invalid_request(detail: str) -> Problem:
    """Return the answer to a request whose fields are wrong."""
    return Problem(422, "invalid_request", detail)


def response_of(problem: Problem) -> Response:
    """Return ``problem`` as a response."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
    }
    return Response(
        msgspec.json.encode(body), problem.status, headers=dict(problem.headers or {}), media_type=MEDIA_TYPE
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route that may answer with these problems besides those that any may."""
    return {status: _documented(HTTPStatus(status).phrase) for status in sorted({400, 422, 503, *statuses})}


def _documented(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": ProblemBody.model_json_schema()}}}


def install(app: Starlette) -> None:
    """Make ``app`` answer every error with a problem."""
    for kind in (Problem, SocialError, StoreUnavailable, HTTPException):
        app.add_exception_handler(kind, _known)
    app.add_exception_handler(Exception, _unhandled)
    if isinstance(app, FastAPI):
        app.add_exception_handler(RequestValidationError, _invalid)


def problem_of(error: Exception) -> Problem:
    """Return the answer to a request that ended with ``error``, one of those that :func:`install` knows."""
    match error:
        case Problem():
            return error
        case QuotaSpent():
            headers = {"Retry-After": str(error.retry_after_s)}
            return Problem(_SOCIAL_STATUS[type(error)], error.code, error.detail, headers)
        case SocialError():
            return Problem(_SOCIAL_STATUS[type(error)], error.code, error.detail)
        case StoreUnavailable():
            _log.warning("%s", error)
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            return Problem(503, "unavailable", "something this needs did not answer; try again", headers)
        case HTTPException():
            code = _HTTP_CODES.get(error.status_code, "bad_request")
            return Problem(error.status_code, code, error.detail, error.headers)
    raise error


def _known(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        problem.headers = {"Allow": ", ".join(_methods_of(request))}
    return response_of(problem)


def _methods_of(request: Request) -> list[str]:
    """Return the methods that the path of ``request`` takes; the routes of one path are several, each with its own."""
    asked = [(method, {**request.scope, "method": method}) for method in _METHODS]
    return [
        method for method, scope in asked if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return response_of(invalid_request("; ".join(_told(error.errors()[:5]))))


def _told(errors: Sequence[Any]) -> list[str]:
    return [f"{'.'.join(str(part) for part in error['loc'])[:100]}: {error['msg']}" for error in errors]


def _unhandled(_: Request, __: Exception) -> Response:
    return response_of(Problem(500, "internal", "the server failed; this is its fault"))
