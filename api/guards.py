"""What is refused before any route sees it: tokens in the URL and bodies that are too large."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem, response_of

MAX_BODY_BYTES = 65_536
_SECRET_PARAMETERS = frozenset({"token", "access_token", "refresh_token"})


class RefuseTokensInUrl:
    """Answers 400 to a token in the query, whatever its path: URLs end up in logs and histories (RFC 6750 §5.3)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests without a token in their query."""
        if scope["type"] == "http" and _names_token(scope["query_string"]):
            problem = Problem(400, "token_in_url", "send the token in the Authorization header, never in the URL")
            await response_of(problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _names_token(query: bytes) -> bool:
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return any(name.strip().lower() in _SECRET_PARAMETERS for name, _ in pairs)


class LimitBody:
    """Answers 413 to a body of more than :data:`MAX_BODY_BYTES`, announced or not, before it is held in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests, counting what is read of their bodies."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
            await response_of(Problem(413, "too_large", _TOO_LARGE))(scope, receive, send)
            return
        await self._app(scope, _counted(receive), send)


_TOO_LARGE = f"a body may have {MAX_BODY_BYTES} bytes"


def _counted(receive: Receive) -> Receive:
    received_bytes = 0

    async def counted() -> Message:
        nonlocal received_bytes
        message = await receive()
        received_bytes += len(message.get("body", b""))
        if received_bytes > MAX_BODY_BYTES:
            raise HTTPException(413, _TOO_LARGE)
        return message

    return counted
