"""What the load client and the publisher must know of a server to drive it, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

FRIENDS = 40
ENTRY_MARKER = b'"updated_at_ms"'
"""Stands once in each entry, and in nothing else that a server of ours sends."""


def watched(user: int, users: int, friends: int = FRIENDS) -> list[int]:
    """Return whom ``user`` watches: half of the friends on either side, modulo ``users``. Watching is mutual.

    Raises:
        ValueError: ``friends`` is odd, below 2, or not below ``users``.
    """
    if friends < 2 or friends % 2 or friends >= users:
        raise ValueError(f"friends are an even number from 2 to {users - 1}, not {friends}")
    distances = range(1, friends // 2 + 1)
    return [(user + sign * distance) % users for distance in distances for sign in (1, -1)]


def channel(user: int) -> str:
    """Return the pub/sub channel of a user's entries."""
    return f"loc:{user}"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One POST."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Target(Protocol):
    """A server under load."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it runs already. ``None``: it is to be started by :meth:`argv`, and runs on 127.0.0.1."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the upgrade request, beyond those of RFC 6455."""

    @property
    def subscribed(self) -> bytes:
        """Occurs once in what the client receives, as soon as everything published from then on reaches it."""

    @property
    def marker(self) -> bytes:
        """Occurs once for each delivery in what the client receives."""

    @property
    def ping(self) -> tuple[bytes, bytes] | None:
        """The payload of a text frame that the client must answer, and that of its answer; else it is closed.

        ``None``: there are only WebSocket pings, which must be answered as well.
        """

    def prepare(self) -> None:
        """Build what is not built yet. It may take a minute the first time."""

    def argv(self, port: int, redis_port: int, users: int) -> list[str]:
        """Return the command that starts the server; it prints ``ready`` once it listens on ``port``."""

    def path(self, user: int) -> str:
        """Return path and query of the upgrade request, which say who the user is."""

    def hello(self, user: int, users: int) -> list[bytes]:
        """Return the payloads of the text frames that the client sends once it is open."""

    def post(self, entries: Sequence[tuple[int, bytes]]) -> HttpRequest | None:
        """Return the request that publishes entries (user, JSON). ``None``: PUBLISH each on :func:`channel`."""
