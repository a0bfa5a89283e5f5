"""The messages of ``nearby.v1`` (protocol §2 and §3): one frozen struct each, and their checks.

Client messages are closed: an unknown field is refused. Server messages leave out fields that are ``None``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from nearby.model import MAX_SEQ, Location

MAX_BATCH_POINTS = 100

Latitude = Annotated[float, msgspec.Meta(ge=-90, le=90)]
Longitude = Annotated[float, msgspec.Meta(ge=-180, le=180)]
AccuracyM = Annotated[float, msgspec.Meta(ge=0, le=100_000)]
SpeedMps = Annotated[float, msgspec.Meta(ge=0, le=500)]
HeadingDeg = Annotated[float, msgspec.Meta(ge=0, lt=360)]
InstantMs = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
RadiusM = Annotated[float, msgspec.Meta(ge=50, le=50_000)]

# ---------------------------------------------------------------------------------------------- client


class _Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    pass


class LocationPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One point of a ``batch``; fields as in ``location``."""

    lat: Latitude
    lon: Longitude
    accuracy_m: AccuracyM | None = None
    speed_mps: SpeedMps | None = None
    heading_deg: HeadingDeg | None = None
    recorded_at_ms: InstantMs | None = None
    sent_at_ms: InstantMs | None = None

    def at(self, recorded_at_ms: int) -> Location:
        """Return this fix as taken at ``recorded_at_ms``, already corrected by the server."""
        return Location(self.lat, self.lon, recorded_at_ms, self.accuracy_m, self.speed_mps, self.heading_deg)


class LocationMessage(_Client, frozen=True, tag="location"):
    """A report of the device's position; also its heartbeat. Times are Unix milliseconds of its clock."""

    lat: Latitude
    lon: Longitude
    accuracy_m: AccuracyM | None = None
    speed_mps: SpeedMps | None = None
    heading_deg: HeadingDeg | None = None
    recorded_at_ms: InstantMs | None = None
    sent_at_ms: InstantMs | None = None
    seq: Seq | None = None

    def at(self, recorded_at_ms: int) -> Location:
        """Return this fix as taken at ``recorded_at_ms``, already corrected by the server."""
        return Location(self.lat, self.lon, recorded_at_ms, self.accuracy_m, self.speed_mps, self.heading_deg)


class BatchMessage(_Client, frozen=True, tag="batch"):
    """Points gathered while the device was offline; the answer comes once all are durably stored."""

    points: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]
    seq: Seq | None = None


class SettingsMessage(_Client, frozen=True, tag="settings"):
    """The viewer's radius, metres."""

    radius_m: RadiusM


class ResyncMessage(_Client, frozen=True, tag="resync"):
    """Ask for a snapshot."""


class PingMessage(_Client, frozen=True, tag="ping"):
    """Ask for a ``pong`` with the same ``id``."""

    id: Annotated[str, msgspec.Meta(max_length=64)] | Annotated[int, msgspec.Meta(ge=-MAX_SEQ, le=MAX_SEQ)]


class AuthMessage(_Client, frozen=True, tag="auth"):
    """The access token as the first frame, or a newer one at any time."""

    token: str


ClientMessage = LocationMessage | BatchMessage | SettingsMessage | ResyncMessage | PingMessage | AuthMessage
CLIENT_TYPES = frozenset({"location", "batch", "settings", "resync", "ping", "auth"})

ErrorCode = Literal[
    "invalid_message",
    "invalid_location",
    "too_old",
    "too_many_points",
    "unknown_type",
    "rate_limited",
    "not_authenticated",
    "unavailable",
    "internal",
]


class InvalidMessage(Exception):
    """A client message that the protocol refuses; ``code`` and ``detail`` go to the client."""

    def __init__(self, code: ErrorCode, detail: str, seq: int | None = None) -> None:
        self.code: ErrorCode = code
        self.detail = detail
        self.seq = seq
        super().__init__(f"{code}: {detail}")


# ---------------------------------------------------------------------------------------------- server


class _Server(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    pass


class FriendEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A friend as a viewer sees them. ``distance_m`` is an integer; times are Unix milliseconds."""

    user_id: str
    lat: float
    lon: float
    distance_m: int
    updated_at_ms: int
    precision: Literal["exact", "approximate"]
    accuracy_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None


class GoneEntry(msgspec.Struct, frozen=True):
    """A friend who left the viewer's map."""

    user_id: str
    reason: Literal["out_of_range", "inactive", "not_sharing", "removed"]


class Welcome(_Server, frozen=True, tag="welcome"):
    """The first frame of an authenticated connection."""

    connection_id: str
    user_id: str
    gateway_id: str
    server_time_ms: int
    report_interval_s: float
    inactive_after_s: float
    radius_m: float
    expires_at_ms: int


class Snapshot(_Server, frozen=True, tag="snapshot"):
    """Every friend now nearby; replaces the client's whole map."""

    friends: list[FriendEntry]


class Update(_Server, frozen=True, tag="update"):
    """Changed or new entries, and friends who left."""

    friends: list[FriendEntry] = []
    gone: list[GoneEntry] = []


class RejectedPoint(msgspec.Struct, frozen=True):
    """A point of a batch that was refused, by its place in ``points``."""

    index: int
    code: ErrorCode


class Ack(_Server, frozen=True, tag="ack"):
    """The answer to a ``location`` (``recorded_at_ms``, ``live``) or a ``batch`` (``stored``, ``rejected``)."""

    seq: int | None = None
    recorded_at_ms: int | None = None
    live: bool | None = None
    stored: int | None = None
    rejected: list[RejectedPoint] | None = None


class FriendsChanged(_Server, frozen=True, tag="friends_changed"):
    """User ids of friends gained and lost; the client refreshes names through REST."""

    added: list[str]
    removed: list[str]


class Reconnect(_Server, frozen=True, tag="reconnect"):
    """Close and come back after ``after_ms`` milliseconds, already random per client."""

    after_ms: int
    reason: str
    url: str | None = None


class TokenExpiring(_Server, frozen=True, tag="token_expiring"):
    """The access token ends soon; renew it in band."""

    expires_at_ms: int


class Error(_Server, frozen=True, tag="error"):
    """A message was refused, or could not be carried out."""

    code: ErrorCode
    detail: str
    seq: int | None = None
    retry_after_ms: int | None = None


class Pong(_Server, frozen=True, tag="pong"):
    """The answer to ``ping``."""

    id: str | int


class AuthOk(_Server, frozen=True, tag="auth_ok"):
    """The answer to an in-band renewal."""

    expires_at_ms: int


ServerMessage = Welcome | Snapshot | Update | Ack | FriendsChanged | Reconnect | TokenExpiring | Error | Pong | AuthOk

SERVER_TYPES = frozenset(
    {
        "welcome",
        "snapshot",
        "update",
        "ack",
        "friends_changed",
        "reconnect",
        "token_expiring",
        "error",
        "pong",
        "auth_ok",
    }
)
