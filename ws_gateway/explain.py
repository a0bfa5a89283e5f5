"""What this gateway knows about one user seeing another. No coordinates leave it."""

from __future__ import annotations

import msgspec

from nearby.channels import location_channel
from nearby.geo import metres_of, shown_distance_m, squared_chord
from nearby.model import UserId
from nearby.sharing import Tier
from pubsub_router.router import Router
from ws_gateway.connection import Connection
from ws_gateway.entry import Entry
from ws_gateway.gateway import Gateway
from ws_gateway.viewer import Viewer


class Watching(msgspec.Struct, frozen=True):
    """One connection of the viewer. ``None``: not known. Ages and times in milliseconds, lengths in metres.

    ``precision``: at which tier the friend may be seen here, ``None`` if they are no friend; ``shares``: what the
    friend says to everyone lets that through. ``shown``: the friend is on this map now.
    """

    connection_id: str
    loaded: bool
    located: bool
    radius_m: float
    precision: str | None = None
    shares: bool | None = None
    shown: bool = False
    shard: str | None = None
    shard_answers: bool | None = None
    age_ms: int | None = None
    expires_in_ms: int | None = None
    distance_m: int | None = None


class Publishing(msgspec.Struct, frozen=True):
    """One connection of the friend: whether somebody may see each tier, so that it is published."""

    connection_id: str
    exact: bool
    approximate: bool


class GatewayExplanation(msgspec.Struct, frozen=True):
    """All that one gateway has to say."""

    gateway_id: str
    viewer: list[Watching]
    friend: list[Publishing]


class Explainer:
    """Answers for ``gateway``; ``router`` knows the shard of each channel."""

    def __init__(self, gateway: Gateway, router: Router) -> None:
        self._gateway = gateway
        self._router = router

    async def explain(self, viewer_id: str, friend_id: str) -> GatewayExplanation:
        """Return what is known of the connections of both users, by their ids."""
        now_ms = self._gateway.cache_clock()
        self._gateway.hub.advance()
        return GatewayExplanation(
            self._gateway.settings.gateway_id,
            [self._watching(connection, UserId(friend_id), now_ms) for connection in self._connections(viewer_id)],
            [
                Publishing(connection.connection_id, *connection.viewer.audience.tiers(now_ms))
                for connection in self._connections(friend_id)
                if connection.viewer is not None
            ],
        )

    def _connections(self, user_id: str) -> list[Connection]:
        devices = self._gateway.devices.get(location_channel(UserId(user_id)))
        return list(devices.connected) if devices else []

    def _watching(self, connection: Connection, friend_id: UserId, now_ms: int) -> Watching:
        viewer = connection.viewer
        assert viewer is not None
        known = Watching(connection.connection_id, connection.arrival is None, viewer.located, viewer.radius_m)
        entry = viewer.friends.get(friend_id)
        if entry is None:
            return known
        listens = entry.tier is not Tier.OFF
        known = msgspec.structs.replace(
            known,
            precision=entry.tier.label,
            shares=entry.ceiling >= entry.tier,
            shown=entry.viewers.get(viewer, False),
            shard=self._router.ring.slot_of(entry.channel) if listens and self._router.ring else None,
            shard_answers=self._router.reachable(entry.channel) if listens else None,
        )
        if entry.record is None:
            return known
        return msgspec.structs.replace(
            known,
            age_ms=now_ms - entry.record.recorded_at_ms,
            expires_in_ms=entry.expires_at_ms - now_ms,
            distance_m=_distance_m(viewer, entry),
        )


def _distance_m(viewer: Viewer, entry: Entry) -> int | None:
    if not viewer.located:
        return None
    return shown_distance_m(metres_of(squared_chord(viewer.vector, entry.vector)), exact=entry.tier is Tier.EXACT)
