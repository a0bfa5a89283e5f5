"""Telling gateways of changes at once, on the control channels; the change feed repairs what gets lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from nearby.changes import Change, SharingChanged, concerns, encode
from nearby.channels import control_channel
from nearby.errors import StoreUnavailable
from nearby.model import UserId
from nearby.ports import PubSub
from social_graph.graph import SocialGraph

WRITING_TURNS = 2
"""Turns of the event loop until what was published is with the kernel, and so outlives this process.

The connections to the shards write once per turn, and the loop may hand that over at the end of the next. Without
waiting for it, an answer could overtake what it acknowledges.
"""

_log = logging.getLogger(__name__)


class Announcer:
    """Publishes changes after their commit and before the answer that acknowledges them."""

    def __init__(self, graph: SocialGraph, pubsub: PubSub) -> None:
        self._graph = graph
        self._pubsub = pubsub

    async def announce(self, changes: Iterable[Change]) -> None:
        """Publish each change to every user it concerns; of a sharing switch, to the friends too.

        Never fails: what was committed stays so, and gateways find it in the feed.
        """
        for change in changes:
            payload = encode(change)
            for user_id in await self._audience(change):
                self._pubsub.publish(control_channel(user_id), payload)
        for _ in range(WRITING_TURNS):
            await asyncio.sleep(0)

    async def _audience(self, change: Change) -> tuple[UserId, ...]:
        if not isinstance(change, SharingChanged):
            return concerns(change)
        try:
            friend_ids = await self._graph.friendships.friend_ids(change.user_id)
        except StoreUnavailable as error:
            _log.warning("change %d is left to the feed: %s", change.sequence, error)
            return concerns(change)
        return change.user_id, *friend_ids
