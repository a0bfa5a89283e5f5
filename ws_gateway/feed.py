"""Follows the change feed, so that a change whose publish was lost is enforced within two seconds all the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nearby.changes import Change
from nearby.errors import StoreUnavailable
from nearby.ports import FriendDirectory

log = logging.getLogger(__name__)

POLL_S = 1.0


class ChangeFeed:
    """The changes from a position on, which is taken once, before the first friend list is loaded.

    What changed before a friend list was loaded is in the list, what changed after it comes by the feed. While the API
    is away nothing is skipped: following goes on where it stopped.
    """

    def __init__(self, directory: FriendDirectory) -> None:
        self._directory = directory
        self._position: int | None = None

    async def begin(self) -> None:
        """Take the position, unless it is taken; to be awaited before a friend list is asked for.

        Raises:
            StoreUnavailable: the API did not answer, and no position is taken.
        """
        if self._position is None:
            latest = await self._directory.latest_sequence()
            if self._position is None:  # another call, which may have let a list be loaded, may have been quicker
                self._position = latest

    async def follow(self, apply: Callable[[Change], None]) -> None:
        """Call ``apply`` for each change after the position, in the order of the feed, until cancelled."""
        answering = True
        while True:
            try:
                changes = await self._next()
                answering = True
            except StoreUnavailable as error:
                if answering:
                    log.warning("change feed: %s", error)
                answering, changes = False, []
            for change in changes:
                apply(change)
                self._position = change.sequence
            if not changes:
                await asyncio.sleep(POLL_S)

    async def _next(self) -> list[Change]:
        await self.begin()
        assert self._position is not None
        return await self._directory.changes_after(self._position)
