"""The task that deletes what has had its time.

Changes, friend requests, invites, answers kept for repetitions, and refresh tokens.
"""

from __future__ import annotations

import logging

from nearby.errors import StoreUnavailable
from nearby.ports import Clock, Sleep
from social_graph.graph import SocialGraph

INTERVAL_S = 60.0

_log = logging.getLogger(__name__)


async def delete_what_is_over(graph: SocialGraph, change_retention_s: float, clock: Clock, sleep: Sleep) -> None:
    """Delete it in parts until none is left, every minute, until cancelled. Several processes may do so."""
    while True:
        try:
            while await delete_some(graph, round(clock() - change_retention_s * 1000)):
                await sleep(0)
        except StoreUnavailable as error:
            _log.warning("what is over waits to be deleted: %s", error)
        await sleep(INTERVAL_S)


async def delete_some(graph: SocialGraph, changes_before_ms: int) -> int:
    """Delete a part of it and return of how much; changes are kept that were made at ``changes_before_ms`` or later.

    Raises:
        StoreUnavailable: the database failed.
    """
    return (
        await graph.changes.prune(changes_before_ms)
        + await graph.requests.delete_expired()
        + await graph.invites.delete_expired()
        + await graph.idempotency_keys.delete_expired()
        + await graph.refresh_tokens.delete_expired()
    )
