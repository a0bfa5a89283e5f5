"""Any server that speaks Centrifugo's JSON client protocol and HTTP API, brought by whoever runs the benchmark.

Frames, after the documents of Centrifugo 6. The client sends ``connect``, then one frame of 40 ``subscribe`` commands,
a line each; the server answers each by its ``id``. A delivery is a push, and a frame may hold several, a line each::

    {"push":{"channel":"loc:17","pub":{"data":{"user_id":…}}}}

The client asks for WebSocket pings in place of the protocol's own, which any line of a frame may be. Channels ``loc:…``
belong to a namespace ``loc`` of the server's configuration (docs/benchmark-references.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import jwt

from benchmarks.targets import ENTRY_MARKER, FRIENDS, HttpRequest, channel, watched


@dataclass(frozen=True, slots=True)
class Centrifugo:
    """A server at ``url`` (``ws://HOST:PORT/connection/websocket``) with its API at ``api_url`` (``http://HOST:PORT/api``).

    Clients bring a token of their user signed with ``token_secret`` (HS256), or are anonymous if that is ``None``.
    """

    url: str
    api_url: str
    api_key: str = field(repr=False)
    token_secret: str | None = field(default=None, repr=False)
    friends: int = FRIENDS
    name: str = "Centrifugo"
    ping: tuple[bytes, bytes] | None = None
    marker: bytes = ENTRY_MARKER
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int] | None:
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    @property
    def subscribed(self) -> bytes:
        # Commands are answered in their order, so that this is the last of them.
        return b'"id":%d,"subscribe"' % (self.friends + 1)

    def prepare(self) -> None:
        """Do nothing: the server runs."""

    def argv(self, port: int, redis_port: int, users: int) -> list[str]:
        return []

    def path(self, user: int) -> str:
        return f"{urlsplit(self.url).path}?cf_ws_frame_ping_pong=true"

    def hello(self, user: int, users: int) -> list[bytes]:
        credentials = {} if self.token_secret is None else {"token": token(user, self.token_secret)}
        subscribes = [
            {"id": number, "subscribe": {"channel": channel(friend)}}
            for number, friend in enumerate(watched(user, users, self.friends), start=2)
        ]
        return [_frame([{"id": 1, "connect": credentials}]), _frame(subscribes)]

    def post(self, entries: Sequence[tuple[int, bytes]]) -> HttpRequest | None:
        publishes = (
            b'{"publish":{"channel":"%b","data":%b}}' % (channel(user).encode(), data) for user, data in entries
        )
        headers = {"Content-Type": "application/json", "X-API-Key": self.api_key}
        return HttpRequest(f"{self.api_url}/batch", headers, b'{"commands":[' + b",".join(publishes) + b"]}")


def token(user: int, secret: str) -> str:
    """Return a connection token of a user that never expires."""
    return jwt.encode({"sub": str(user)}, secret, "HS256")


def refusals(answer: bytes) -> list[str]:
    """Return why publishes were refused, by the answer to :meth:`Centrifugo.post`. HTTP says 200 all the same."""
    told = json.loads(answer)
    replies = [told, *told.get("replies", [])]
    return [f"{reply['error']['code']}: {reply['error']['message']}" for reply in replies if "error" in reply]


def _frame(commands: Sequence[object]) -> bytes:
    return "\n".join(json.dumps(command, separators=(",", ":")) for command in commands).encode()
