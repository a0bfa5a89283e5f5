"""Follows the change feed, so that a change whose publish was lost is enforced within two seconds all the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nearby.changes import Change
from nearby.errors import FeedBroken, StoreUnavailable
from nearby.ports import FriendDirectory

log = logging.getLogger(__name__)

POLL_S = 1.0


class ChangeFeed:
    """The changes from a position on, which is taken once, before the first friend list is loaded.

    What changed before a friend list was loaded is in the list, what changed after it comes by the feed. While the API
    is away nothing is skipped: following goes on where it stopped. Where that is not possible, because the feed no
    longer reaches back so far, every friend list that was read before is to be forgotten, and a position is taken anew.
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

    async def follow(self, apply: Callable[[Change], None], start_over: Callable[[], None]) -> None:
        """Call ``apply`` for each change after the position, in the order of the feed, until cancelled.

        ``start_over`` is called when changes may have been missed. The new position was known before that call, so each
        list read after it is followed.
        """
        answering, broken = True, False
        while True:
            changes: list[Change] = []
            try:
                await self.begin()
                if broken:
                    start_over()
                    broken = False
                assert self._position is not None
                changes = await self._directory.changes_after(self._position)
                answering = True
            except FeedBroken as error:
                log.warning("change feed: %s; all clients come anew", error)
                self._position, broken = None, True
                continue
            except StoreUnavailable as error:
                if answering:
                    log.warning("change feed: %s", error)
                answering = False
            for change in changes:
                apply(change)
                self._position = change.sequence
            if not changes:
                await asyncio.sleep(POLL_S)
