"""What follows when a viewer comes to see a friend at another tier: another channel, and another look at the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nearby.changes import FriendshipChanged
from nearby.model import FriendEdge, UserId
from nearby.ports import Clock, PubSub
from ws_gateway.hub import Hub
from ws_gateway.refresh import Refresher

HORIZON_S = 1.5
"""Changes of tier further ahead are left to a later call of :meth:`TierChanges.arm`, of which there is one a second."""


def edge_of(change: FriendshipChanged, user_id: UserId) -> FriendEdge:
    """Return the friend that ``change`` is about as ``user_id``, one of the two, knows them after it."""
    if change.user_id == user_id:
        return FriendEdge(
            change.friend_id,
            change.friend_sharing,
            change.sequence,
            change.friend_limits,
            change.friend_shows,
            change.user_shows,
        )
    return FriendEdge(
        change.user_id,
        change.user_sharing,
        change.sequence,
        change.user_limits,
        change.user_shows,
        change.friend_shows,
    )


class TierChanges:
    """Implements :class:`ws_gateway.hub.Channels`, and has the hub advance at the instant at which a tier changes.

    ``flush`` advances the hub and sends what that changed.
    """

    def __init__(
        self,
        hub: Hub,
        pubsub: PubSub,
        refresher: Refresher,
        flush: Callable[[], None],
        clock: Clock,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._hub = hub
        self._pubsub = pubsub
        self._refresher = refresher
        self._flush = flush
        self._clock = clock
        self._tasks = tasks
        self._to_watch: dict[bytes, None] = {}
        self._armed_ms = 0

    def wanted(self, channel: bytes) -> None:
        """Subscribe to ``channel`` once more, and read where the friend is once nothing newer can be missed."""
        self._pubsub.subscribe([channel])
        if not self._to_watch:
            self._tasks.create_task(self._watch())
        self._to_watch[channel] = None

    def unwanted(self, channel: bytes) -> None:
        """Unsubscribe from ``channel`` once."""
        self._pubsub.unsubscribe([channel])

    def reopened(self, channel: bytes) -> None:
        """Read where the friend went meanwhile."""
        self._refresher.later([channel])

    def arm(self) -> None:
        """Have the next change of tier that is due by the clock carried out at its instant, if that is soon."""
        due_ms = self._hub.next_ms
        in_s = (due_ms - self._clock()) / 1000
        if in_s <= HORIZON_S and due_ms != self._armed_ms:
            self._armed_ms = due_ms
            asyncio.get_running_loop().call_later(max(0.0, in_s), self._due)

    def _due(self) -> None:
        self._armed_ms = 0
        self._flush()
        self.arm()

    async def _watch(self) -> None:
        await asyncio.sleep(0)  # more may follow in this turn
        channels, self._to_watch = list(self._to_watch), {}
        await self._pubsub.confirmed(channels)
        self._refresher.later(channels)
