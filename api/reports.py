"""Locations reported over REST take the way of those that come in over a socket: cache and history, then publish.

One difference: a jump that is too fast is remembered by nobody, so it goes to the history alone until the cache has
forgotten where the user was before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nearby.channels import approximate_channel, location_channel
from nearby.fixes import speed_mps
from nearby.geo import cell_centre
from nearby.model import FriendList, HistoryPoint, Location
from nearby.ports import Clock, HistoryStream, LocationCache, PubSub
from nearby.record import LocationRecord, approximate, pack
from nearby.sharing import Tier, ceiling

HEARTBEAT_MS = 27_000
"""How often an approximate location is published within a cell: the gateways' default."""


class Reports:
    """Takes locations. A fix less accurate than ``max_accuracy_m`` or faster than ``max_speed_mps`` is not shown.

    0 switches a limit off.
    """

    def __init__(
        self,
        cache: LocationCache,
        stream: HistoryStream,
        pubsub: PubSub,
        clock: Clock,
        max_accuracy_m: float,
        max_speed_mps: float,
    ) -> None:
        self._cache = cache
        self._stream = stream
        self._pubsub = pubsub
        self._clock = clock
        self._max_accuracy_m = max_accuracy_m
        self._max_speed_mps = max_speed_mps

    async def report(self, user: FriendList, location: Location) -> bool:
        """Take ``location`` of ``user``; whether it is their live location now.

        Raises:
            StoreUnavailable: not all of it was stored. Reporting it again is safe.
        """
        [cached] = await self._cache.read_many([user.user_id])
        before = None if cached is None else cached.record.location
        plausible = self._plausible(before, location)
        storing = self._append(user, [location], flagged=not plausible, durable=False)
        if not plausible:
            await storing
            return False
        [result], _ = await asyncio.gather(
            self._cache.write_many([(user.user_id, LocationRecord.of(location))]), storing
        )
        if result.accepted:
            self._publish(user, LocationRecord.of(location, result.version), before)
        return result.accepted

    def _publish(self, user: FriendList, record: LocationRecord, before: Location | None) -> None:
        """Publish ``record`` for each tier at which a friend of ``user`` may see them now."""
        now_ms = self._clock()
        for_all = ceiling(user.sharing, user.limits, now_ms).tier
        seen = {min(edge.sees.at(now_ms), for_all) for edge in user.friends}
        if Tier.EXACT in seen:
            self._pubsub.publish(location_channel(user.user_id), pack(record))
        if Tier.APPROXIMATE in seen and _is_due(before, record):
            self._pubsub.publish(approximate_channel(user.user_id), pack(approximate(record)))

    async def store(self, user: FriendList, locations: Sequence[Location]) -> int:
        """Put ``locations`` into the history, onto disk, and return how many; none where ``user`` wants none kept.

        Raises:
            StoreUnavailable: some, all or none were stored. Storing them again is safe.
        """
        return await self._append(user, locations, flagged=False, durable=True)

    async def _append(self, user: FriendList, locations: Sequence[Location], *, flagged: bool, durable: bool) -> int:
        retention_s = user.history_retention_s
        if retention_s == 0 or not locations:
            return 0
        unseen = flagged or ceiling(user.sharing, user.limits, self._clock()).tier is Tier.OFF
        points = [HistoryPoint(user.user_id, each, unseen, retention_s) for each in locations]
        await self._stream.append_many(points, durable=durable)
        return len(points)

    def _plausible(self, before: Location | None, location: Location) -> bool:
        if self._max_accuracy_m and (location.accuracy_m or 0) > self._max_accuracy_m:
            return False
        if not self._max_speed_mps or before is None or location.recorded_at_ms <= before.recorded_at_ms:
            return True
        return speed_mps(before, location) <= self._max_speed_mps


def _is_due(before: Location | None, record: LocationRecord) -> bool:
    """Whether friends who see the user approximately are to be told: of another cell, or of life in the same one."""
    if before is None or cell_centre(before.lat_deg, before.lon_deg) != cell_centre(record.lat_deg, record.lon_deg):
        return True
    return before.recorded_at_ms // HEARTBEAT_MS != record.recorded_at_ms // HEARTBEAT_MS
