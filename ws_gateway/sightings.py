"""Notes who received whose location, to the minute, so that people can see who has seen them.

Off the hot path: a delivery notes nothing. Once a minute the pairs that show on a map now and whose friend was heard of
since are gathered, a few at a time, together with those that ended meanwhile, which the viewers remember.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from nearby.errors import StoreUnavailable
from nearby.model import UserId
from nearby.ports import Clock, FriendDirectory
from ws_gateway.hub import Hub
from ws_gateway.viewer import Viewer

log = logging.getLogger(__name__)

INTERVAL_S = 60.0
ENTRIES_PER_TURN = 200
MAX_WAITING = 100_000
"""Pairs that wait while the API is away; beyond that the newest are lost, and counted."""

Pair = tuple[UserId, UserId]


class Sightings:
    """The pairs of owner and viewer to be noted. ``lost_count`` counts those that found no room."""

    def __init__(self, hub: Hub, viewers: Callable[[], Sequence[Viewer]], clock: Clock) -> None:
        self.lost_count = 0
        self._hub = hub
        self._viewers = viewers
        self._clock = clock
        self._waiting: dict[Pair, None] = {}
        self._gathered_ms = 0

    def left(self, viewer: Viewer) -> None:
        """Take what ``viewer``, who has left, saw."""
        for owner_id in viewer.saw:
            self._add(owner_id, viewer.user_id)
        viewer.saw.clear()

    async def gather(self) -> None:
        """Gather what was seen since the last call, holding the event loop for no longer than a few entries take."""
        since_ms, self._gathered_ms = self._gathered_ms, self._clock()
        entries = list(self._hub.entries.values())
        for start in range(0, len(entries), ENTRIES_PER_TURN):
            for entry in entries[start : start + ENTRIES_PER_TURN]:
                if entry.heard_ms >= since_ms:
                    for viewer, shown in entry.viewers.items():
                        if shown:
                            self._add(entry.user_id, viewer.user_id)
            await asyncio.sleep(0)
        for viewer in self._viewers():
            if viewer.saw:
                self.left(viewer)

    async def run(self, directory: FriendDirectory, interval_s: float = INTERVAL_S) -> None:
        """Gather and note for ever, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            await self.gather()
            await self.note(directory)

    async def note(self, directory: FriendDirectory) -> None:
        """Hand what waits to ``directory``; what it does not take waits on."""
        pairs = list(self._waiting)
        try:
            await directory.note_sightings(pairs)
        except StoreUnavailable as error:
            log.warning("%d sightings wait to be noted: %s", len(pairs), error)
            return
        for pair in pairs:
            self._waiting.pop(pair, None)

    def _add(self, owner_id: UserId, viewer_id: UserId) -> None:
        if len(self._waiting) >= MAX_WAITING and (owner_id, viewer_id) not in self._waiting:
            self.lost_count += 1
        else:
            self._waiting[owner_id, viewer_id] = None
