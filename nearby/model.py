"""The nouns that every part of the system shares."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType

import msgspec

from nearby.sharing import EXACT, NO_LIMITS, Limits, TierPlan

UserId = NewType("UserId", str)
"""A user's UUID in its canonical form: 36 characters, lower case."""

GatewayId = NewType("GatewayId", str)
"""A gateway's name; unique among the live members of discovery."""

MAX_SEQ = 2**53 - 1
"""The largest ``seq`` a client may send: what a JSON number carries exactly (RFC 8259 §6)."""


class Precision(enum.Enum):
    """How exactly a friend's location is shown; the values are the wire's."""

    EXACT = "exact"
    APPROXIMATE = "approximate"


class GoneReason(enum.Enum):
    """Why a friend left a viewer's map; the values are the wire's."""

    OUT_OF_RANGE = "out_of_range"
    INACTIVE = "inactive"
    NOT_SHARING = "not_sharing"
    REMOVED = "removed"


class Location(msgspec.Struct, frozen=True, gc=False):
    """One fix of one device.

    Angles are degrees on WGS 84, lengths metres, instants milliseconds since the Unix epoch.
    ``None`` means that the device did not say.
    """

    lat_deg: float
    lon_deg: float
    recorded_at_ms: int
    accuracy_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None


class HistoryPoint(msgspec.Struct, frozen=True, gc=False):
    """One accepted fix on its way into the history.

    ``flagged`` marks a fix that is kept but was never shown to friends (accuracy or jump, protocol §4).
    ``retention_s`` is how long its owner wants it kept, from its recording on; ``None``: as long as the store keeps
    points by default, which is also the most. ``accepted_at_ms`` is when the history stream took it, by the stream
    server's clock (the id of its entry); 0 before that. A store uses these two and does not give them back.
    """

    user_id: UserId
    location: Location
    flagged: bool = False
    retention_s: int | None = None
    accepted_at_ms: int = 0


# Without gc: there are millions, and nothing that one refers to can refer back to it.
class FriendEdge(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One friend as a gateway needs to know them.

    ``sharing`` is the friend's own switch for everyone (``/v1/me/sharing``) and ``limits`` the rest of what they say
    to everyone; ``switch_sequence`` is the position in the change feed that set both. ``shows`` is how exactly they
    let the list's owner see them, ``sees`` how exactly they may see the owner.
    """

    user_id: UserId
    sharing: bool = True
    switch_sequence: int = 0
    limits: Limits = NO_LIMITS
    shows: TierPlan = EXACT
    sees: TierPlan = EXACT


@dataclass(frozen=True, slots=True)
class FriendList:
    """A user's friends, read in one transaction at position ``sequence`` of the change feed.

    ``sharing`` is this user's own switch and ``limits`` the rest of what they say to everyone. Access tokens issued
    before ``tokens_valid_from_ms`` are revoked.
    ``history_retention_s`` is how long the user wants points kept; 0: not at all, ``None``: as long as by default.
    """

    user_id: UserId
    sequence: int
    sharing: bool
    tokens_valid_from_ms: int
    friends: tuple[FriendEdge, ...]
    history_retention_s: int | None = None
    limits: Limits = NO_LIMITS
