"""The task that lets the user database forget what has had its time."""

from __future__ import annotations

import logging

from nearby.errors import StoreUnavailable
from nearby.ports import Sleep
from social_graph.graph import SocialGraph

INTERVAL_S = 3_600.0

_log = logging.getLogger(__name__)


async def prune_for_ever(graph: SocialGraph, sleep: Sleep) -> None:
    """Prune now and then until cancelled. Several processes may do so."""
    while True:
        try:
            await graph.pruning.prune()
        except StoreUnavailable as error:
            _log.warning("pruning waits: %s", error)
        await sleep(INTERVAL_S)
