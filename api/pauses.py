"""The task that ends pauses of sharing when their time has come."""

from __future__ import annotations

import logging

from api.announcer import Announcer
from nearby.errors import StoreUnavailable
from nearby.ports import Sleep
from social_graph.graph import SocialGraph

INTERVAL_S = 1.0
"""How late the end of a pause reaches the friends' maps, at most; readers of the database see it at once."""

_log = logging.getLogger(__name__)


async def end_due_pauses(graph: SocialGraph, announcer: Announcer, sleep: Sleep) -> None:
    """Write and announce the end of each pause that is due, until cancelled. Several processes may do so."""
    while True:
        try:
            await announcer.announce(await graph.sharing.resume_due())
        except StoreUnavailable as error:
            _log.warning("pauses wait to be ended: %s", error)
        await sleep(INTERVAL_S)
