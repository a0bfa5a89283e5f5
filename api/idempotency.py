"""Writes with an ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header-07): sent again, they have one effect.

A key belongs to one user and one request: method, path, query and body. The first answer is stored before it is sent,
and is what every repetition gets. An answer that says that nothing was done and it may be tried again (401, 429, 5xx)
is not kept. If the process dies in the middle, the key is free again after a minute, and the request is then carried
out anew, which our writes bear: each either has its effect once by nature or says that it is there already.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Coroutine
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import believe
from api.identity import identity_of
from api.problems import RETRY_AFTER_S, Problem, problem_of, response_of
from nearby.errors import SocialError, StoreUnavailable
from nearby.model import UserId
from social_graph.idempotency import Begun, Different, Done, IdempotencyKeys, UnderWay

HEADER = "idempotency-key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_TRY_AGAIN = frozenset({401, 429})
_KEPT_HEADERS = frozenset({b"content-type", b"cache-control"})
_STORE_TIMEOUT_S = 10

_log = logging.getLogger(__name__)


class _Answer(msgspec.Struct, array_like=True):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class IdempotentWrites:
    """Carries out a write with a key once, and answers its repetitions from the store."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on everything but writes of users who gave a key."""
        key = _key_of(scope)
        if key is None or identity_of(scope).token is None or not is_served(scope):
            await self._app(scope, receive, send)
            return
        try:
            answer = await self._answer(scope, receive, key)
        except (Problem, SocialError, StoreUnavailable, HTTPException) as error:
            await response_of(problem_of(error))(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive, key: str) -> _Answer:
        if not _KEY.fullmatch(key):
            raise Problem(422, "invalid_request", "header.idempotency-key: 1 to 255 visible ASCII characters")
        services = scope["app"].state.services
        user_id = (await believe(services, identity_of(scope))).user_id
        body = await _whole_body(receive)
        keys: IdempotencyKeys = services.graph.idempotency_keys
        match await keys.claim(user_id, key, _fingerprint(scope, body, key)):
            case Different():
                raise Problem(422, "idempotency_key_reused", "this key was used for another request")
            case UnderWay():
                headers = {"Retry-After": str(RETRY_AFTER_S)}
                raise Problem(409, "request_in_progress", "this request is being carried out; ask again", headers)
            case Done(_, stored):
                answer = msgspec.msgpack.decode(stored, type=_Answer)
                answer.headers.append((b"idempotency-replayed", b"true"))
                return answer
            case Begun():
                return await self._carry_out(scope, body, keys, user_id, key)

    async def _carry_out(self, scope: Scope, body: bytes, keys: IdempotencyKeys, user_id: UserId, key: str) -> _Answer:
        try:
            answer = await _ask(self._app, scope, body)
        except Exception:
            await _settle(keys.release(user_id, key))
            raise
        if answer.status >= 500 or answer.status in _TRY_AGAIN:
            await _settle(keys.release(user_id, key))
        else:
            kept = _Answer(answer.status, [h for h in answer.headers if h[0].lower() in _KEPT_HEADERS], answer.body)
            await _settle(keys.finish(user_id, key, kept.status, msgspec.msgpack.encode(kept)))
        return answer


def is_served(scope: Scope) -> bool:
    """Whether there is a route for the method and path of ``scope``: what is refused anyway takes no key."""
    return any(route.matches(scope)[0] is Match.FULL for route in scope["app"].routes)


def _key_of(scope: Scope) -> str | None:
    if scope["type"] != "http" or scope["method"] not in _WRITES:
        return None
    return Headers(scope=scope).get(HEADER)


def _fingerprint(scope: Scope, body: bytes, key: str) -> str:
    # With the key, which is not stored: a body may be a password or a place, which could be guessed from a plain hash.
    head = f"{key}\n{scope['method']} {scope['path']}?{scope['query_string'].decode('latin-1')}\n"
    return hashlib.sha256(head.encode() + body).hexdigest()


async def _whole_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return bytes(body)


async def _ask(app: ASGIApp, scope: Scope, body: bytes) -> _Answer:
    """Return the whole answer of ``app`` to a request with ``body``."""
    answer = _Answer(500, [], b"")
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer


async def _settle(storing: Coroutine[Any, Any, None]) -> None:
    """Await what the store is told about a request that is over; it is over, whatever the store says."""
    try:
        async with asyncio.timeout(_STORE_TIMEOUT_S):
            await storing
    except (StoreUnavailable, TimeoutError) as error:
        _log.warning("an idempotency key stays under way until its lease ends: %s", error)
