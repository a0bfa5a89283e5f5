"""One friend at one tier, worked out once for all local viewers who may see them so. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nearby.channels import approximate_channel, location_channel
from nearby.codecs import CODECS, Codec
from nearby.geo import unit_vector
from nearby.model import Precision, UserId
from nearby.record import LocationRecord, approximate
from nearby.sharing import NO_LIMITS, Decision, Limits, Tier, ceiling

if TYPE_CHECKING:
    from ws_gateway.viewer import Viewer

Vector = tuple[float, float, float]

_NOT_ENCODED: list[bytes | None] = [None] * len(CODECS)

# Looking a member up on its enum takes longer than all else here that is done per friend.
EXACT, APPROXIMATE, OFF = Tier.EXACT, Tier.APPROXIMATE, Tier.OFF
_SAID_EXACT, _SAID_APPROXIMATE = Precision.EXACT.value, Precision.APPROXIMATE.value


def channel_of(user_id: UserId, tier: Tier) -> bytes:
    """Return the channel of ``user_id`` for those who see them at ``tier``; for ``OFF`` a name that is no channel."""
    if tier is EXACT:
        return location_channel(user_id)
    return approximate_channel(user_id) if tier is APPROXIMATE else b"off:" + user_id.encode()


class Said(NamedTuple):
    """What somebody says to everyone, by row ``sequence`` of the change feed."""

    sequence: int
    switched_on: bool
    limits: Limits = NO_LIMITS


UNHEARD = Said(-1, True)
FROM_THE_START = Said(0, True)
"""What most people say: nothing."""


class Entry:
    """One friend, as every local viewer who may see them at ``tier`` does.

    An approximate entry never holds anything exact, whatever it is given; one that is ``OFF`` never shows anything.

    ``exact`` says whether ``tier`` is. ``viewers`` tells for each whether their map shows this friend now.
    ``expires_at_ms`` is by the caller's clock, as is ``heard_ms``, when this friend was last heard of. ``sharing``:
    what the friend ``said`` to everyone lets the tier through, by the last :meth:`judge`, which also sets ``ceiling``.
    ``fresh`` means that nothing published since the last reading of the cache can have been missed. ``fragments`` has
    what :meth:`encode` returned for this record, at the place of each codec.
    """

    __slots__ = (
        "ceiling",
        "channel",
        "exact",
        "expires_at_ms",
        "expiry_second",
        "fragments",
        "fresh",
        "heard_ms",
        "record",
        "said",
        "sharing",
        "tier",
        "user_id",
        "vector",
        "viewers",
    )

    def __init__(self, user_id: UserId, tier: Tier = EXACT) -> None:
        self.user_id = user_id
        self.tier = tier
        self.exact = tier is EXACT
        self.channel = channel_of(user_id, tier)
        self.record: LocationRecord | None = None
        self.vector: Vector = (0.0, 0.0, 0.0)
        self.viewers: dict[Viewer, bool] = {}
        self.said = UNHEARD
        self.ceiling = EXACT
        self.sharing = tier is not OFF
        self.expires_at_ms = 0
        self.expiry_second = 0
        self.heard_ms = 0
        self.fresh = tier is OFF
        self.fragments = _NOT_ENCODED.copy()

    def judge(self, now_ms: int) -> Decision:
        """Let what this friend said to everyone hold as of ``now_ms``; return what that is."""
        decision = ceiling(self.said.switched_on, self.said.limits, now_ms)
        self.ceiling = decision.tier
        self.sharing = OFF < self.tier <= decision.tier
        return decision

    def show(self, record: LocationRecord | None, expires_at_ms: int) -> None:
        """Let ``record`` be this friend's location, ``None`` for unknown."""
        if record is not None:
            if not self.exact:
                record = approximate(record)
            self.vector = unit_vector(record.lat_deg, record.lon_deg)
        self.record = record
        self.fragments = _NOT_ENCODED.copy()
        self.expires_at_ms = expires_at_ms

    def encode(self, codec: Codec) -> bytes:
        """Return the friend entry up to the distance, and keep it for the other viewers of the same ``codec``."""
        record = self.record
        assert record is not None
        fields: dict[str, object] = {
            "user_id": self.user_id,
            "lat": record.lat_deg,
            "lon": record.lon_deg,
            "updated_at_ms": record.recorded_at_ms,
            "precision": _SAID_EXACT if self.exact else _SAID_APPROXIMATE,
        }
        if record.accuracy_m is not None:
            fields["accuracy_m"] = round(record.accuracy_m, 1)
        if record.speed_mps is not None:
            fields["speed_mps"] = record.speed_mps
        if record.heading_deg is not None:
            fields["heading_deg"] = record.heading_deg
        fields["distance_m"] = 0
        fragment = self.fragments[codec.place] = codec.encode(fields)[: -codec.zero_bytes]
        return fragment
