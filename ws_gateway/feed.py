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


async def follow(directory: FriendDirectory, apply: Callable[[Change], None]) -> None:
    """Call ``apply`` for each change from now on, in the order of the feed, until cancelled.

    A change that concerns clients who connect later is in the friend list that they load. While the
    API is away nothing is skipped: following goes on where it stopped.
    """
    position: int | None = None
    answering = True
    while True:
        try:
            if position is None:
                position = await directory.latest_sequence()
            changes = await directory.changes_after(position)
            answering = True
        except StoreUnavailable as error:
            if answering:
                log.warning("change feed: %s", error)
            answering, changes = False, []
        for change in changes:
            apply(change)
            position = change.sequence
        if not changes:
            await asyncio.sleep(POLL_S)
