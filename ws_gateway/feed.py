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


async def follow(directory: FriendDirectory, apply: Callable[[Change], None], start_over: Callable[[], None]) -> None:
    """Call ``apply`` for each change from now on, in the order of the feed, until cancelled.

    A change that concerns clients who connect later is in the friend list that they load. While the
    API is away nothing is skipped: following goes on where it stopped. Where that is not possible, because the feed no
    longer reaches back so far, ``start_over`` is called: every friend list that was read before is to be forgotten.
    Following then goes on from a place that was known before that call, so each list read after it is followed.
    """
    position: int | None = None
    broken, answering = False, True
    while True:
        changes: list[Change] = []
        try:
            if position is None:
                position = await directory.latest_sequence()
            if broken:
                start_over()
                broken = False
            changes = await directory.changes_after(position)
            answering = True
        except FeedBroken as error:
            log.warning("change feed: %s; all clients come anew", error)
            position, broken = None, True
            continue
        except StoreUnavailable as error:
            if answering:
                log.warning("change feed: %s", error)
            answering = False
        for change in changes:
            apply(change)
            position = change.sequence
        if not changes:
            await asyncio.sleep(POLL_S)
