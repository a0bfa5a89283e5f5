"""Checks every single delivery of a flood: who it is about, where they were then, how far away, and in which order."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.crowd import crowd, messages
from benchmarks.processes import split_cores
from benchmarks.publisher import Publisher, publishing
from benchmarks.subjects import Running
from benchmarks.targets import FRIENDS
from nearby.codecs import JSON
from nearby.geo import HYSTERESIS, distance_m
from nearby.messages import FriendEntry, Snapshot, Update
from nearby.model import UserId

RADIUS_M = 8_047.0
"""The gateway's default."""
ERROR_M = 0.6
"""Distances are told to the metre."""
ERROR_DEG = 1e-6
COMERS_EVERY = 50
FLOOD_PER_S = 3_000_000
MOST_S = 2.0

Place = tuple[float, float]


async def check_flood(running: Running, seconds: float) -> int:
    """Flood our own server for a while, some people coming and going, and check what everybody received.

    Return how many deliveries there were.

    Raises:
        AssertionError: one was wrong, or the last of somebody never came.
    """
    assert running.scene is not None
    town = running.scene.town
    town.comers_every, town.log = COMERS_EVERY, []
    with tempfile.NamedTemporaryFile(prefix="flood-") as file:
        async with crowd(running.port, running.clients, running.marks, split_cores()[1]) as watching:
            await watching.ask(f"record {file.name}")
            await watching.connect()
            publisher = Publisher(running.redis, running.users, running.message)
            with publishing(publisher, FLOOD_PER_S / FRIENDS):
                await asyncio.sleep(min(seconds, MOST_S))
            await publisher.drained()
            await watching.settled()
            publisher.close()
            await watching.ask("record")
        log, town.log, town.comers_every = town.log, None, 0
        step = len(town.users) // running.users
        viewers = [town.homes[step * viewer] for viewer in range(running.users)]
        return await asyncio.to_thread(check, Path(file.name), town.users, viewers, log)


def check(
    recorded: Path, users: Sequence[UserId], viewers: Sequence[Place], log: Sequence[tuple[int, int, float, float]]
) -> int:
    """Check what a crowd recorded against the ``log`` of what was published; return the number of deliveries.

    ``viewers`` are where the clients of the crowd are; ``log`` has the user's number, the instant and the place.

    Raises:
        AssertionError: a delivery was wrong, or the last of somebody never came.
    """
    published = {(str(users[user]), at_ms): (lat, lon) for user, at_ms, lat, lon in log}
    last_ms = {str(users[user]): at_ms for user, at_ms, _, _ in log}
    maps = [_Map(place, published) for place in viewers]
    for client, data in messages(recorded):
        message = JSON.decode_server(data)
        if isinstance(message, Update):
            maps[client].take(message)
        elif isinstance(message, Snapshot):
            maps[client].shown.clear()
    for each in maps:
        each.check_end(last_ms)
    return sum(each.count for each in maps)


class _Map:
    """What one viewer at ``place`` was shown: ``newest`` of each friend, ``shown`` those who are there now."""

    def __init__(self, place: Place, published: Mapping[tuple[str, int], Place]) -> None:
        self.shown: set[str] = set()
        self.newest: dict[str, int] = {}
        self.count = 0
        self._place = place
        self._published = published

    def take(self, update: Update) -> None:
        for gone in update.gone or ():
            assert gone.user_id in self.shown, f"{gone} was not there"
            self.shown.remove(gone.user_id)
        for entry in update.friends or ():
            place = self._published.get((entry.user_id, entry.updated_at_ms))
            if place is not None:  # not from before the flood
                self.count += 1
                self._check(entry, place)
                self.shown.add(entry.user_id)

    def _check(self, entry: FriendEntry, place: Place) -> None:
        wanted_m = distance_m(*self._place, *place)
        assert abs(entry.lat - place[0]) < ERROR_DEG, (entry, place)
        assert abs(entry.lon - place[1]) < ERROR_DEG, (entry, place)
        assert abs(entry.distance_m - wanted_m) <= ERROR_M, (entry, wanted_m)
        limit_m = RADIUS_M * (HYSTERESIS if entry.user_id in self.shown else 1)
        assert wanted_m <= limit_m + ERROR_M, (entry, wanted_m)
        before_ms = self.newest.get(entry.user_id, 0)
        assert entry.updated_at_ms > before_ms, f"{entry} came after {before_ms}"
        self.newest[entry.user_id] = entry.updated_at_ms

    def check_end(self, last_ms: Mapping[str, int]) -> None:
        """Check that the map shows the last of everybody who is near."""
        for friend, newest_ms in self.newest.items():
            if friend in self.shown:
                assert newest_ms == last_ms[friend], f"the last of {friend} never came"
            else:
                away_m = distance_m(*self._place, *self._published[friend, last_ms[friend]])
                assert away_m > RADIUS_M, f"{friend} is {away_m:.0f} m away and not shown"
