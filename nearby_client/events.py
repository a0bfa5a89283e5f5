"""What a client tells its app: the server's messages as they are, and what becomes of the connection."""

from __future__ import annotations

from dataclasses import dataclass

from nearby.messages import (
    Ack,
    AuthOk,
    Error,
    FriendsChanged,
    Pong,
    Reconnect,
    Snapshot,
    TokenExpiring,
    Update,
    Welcome,
)


@dataclass(frozen=True, slots=True)
class Connected:
    """A gateway welcomed this client. ``url`` is where it was reached."""

    welcome: Welcome
    url: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection ended, or an attempt at one failed.

    ``code`` is the close code, the HTTP status of a refused upgrade, or ``None`` where nothing answered.
    ``retry_in_s`` is the pause before the next attempt; ``None`` means that there will be none.
    """

    code: int | None
    reason: str
    retry_in_s: float | None


Event = (
    Connected
    | Disconnected
    | Snapshot
    | Update
    | Ack
    | FriendsChanged
    | Reconnect
    | TokenExpiring
    | Error
    | Pong
    | AuthOk
)
