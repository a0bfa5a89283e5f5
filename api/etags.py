"""Entity tags: a client that has the answer already is told so in place of it; a write may name what it changes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import Header
from pydantic import BaseModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem

T = TypeVar("T")

IfMatch = Annotated[
    str | None,
    Header(max_length=1_000, description="the `ETag` of what is changed, or `*`; another one is answered with 412"),
]


def tag_of(content: bytes) -> str:
    """Return the strong entity tag of an answer (RFC 9110 §8.8.3)."""
    return f'"{base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:15]).decode()}"'


def only_if(if_match: str | None, body_of: Callable[[T], BaseModel]) -> Callable[[T], None] | None:
    """Return a check of what is about to be changed: its answer must have one of the tags in ``if_match``.

    The check raises Problem 412. ``None`` if the client does not ask for one.
    """
    if if_match is None:
        return None

    def check(present: T) -> None:
        if not _names(if_match, tag_of(rendered(body_of(present)))):
            raise Problem(412, "precondition_failed", "it has changed since it was read")

    return check


def rendered(body: BaseModel) -> bytes:
    """Return ``body`` as it is sent."""
    return body.model_dump_json().encode()


def _names(header: str, tag: str) -> bool:
    return header.strip() == "*" or any(word.strip().removeprefix("W/") == tag for word in header.split(","))


class TagAnswers:
    """Gives each whole JSON answer to a GET its tag, and answers 304 to a client that has it (``If-None-Match``)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the request; answers in parts, and all but 200, go through as they are."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        known = Headers(scope=scope).get("if-none-match")
        start: Message | None = None

        async def tagging(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_json(message):
                start = message
                return
            if start is not None:
                first, start = start, None
                if not message.get("more_body", False):
                    message = _tagged(first, message, known)
                await send(first)
            await send(message)

        await self._app(scope, receive, tagging)


def _is_json(start: Message) -> bool:
    return start["status"] == 200 and Headers(raw=start["headers"]).get("content-type") == "application/json"


def _tagged(start: Message, body: Message, known: str | None) -> Message:
    headers = MutableHeaders(scope=start)
    tag = tag_of(body["body"])
    headers["ETag"] = tag
    # An answer is one user's own; a cache may keep it if it asks each time whether it still holds.
    headers.setdefault("Cache-Control", "private, no-cache")
    if known is None or not _names(known, tag):
        return body
    start["status"] = 304
    del headers["content-length"]
    del headers["content-type"]
    return {**body, "body": b""}
