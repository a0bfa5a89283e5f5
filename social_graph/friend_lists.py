"""Friend lists as gateways need them, many at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from nearby.model import FriendEdge, FriendList, UserId
from nearby.ports import Clock
from social_graph.database import Database
from social_graph.plans import plan_in
from social_graph.questions import Question
from social_graph.rights_schema import history_settings
from social_graph.schema import feed_head, friendships, users
from social_graph.sharing import LIMIT_COLUMNS, said_of

MAX_USERS = 1000
"""Users per call, well below the number of parameters that either database takes in one statement."""

_SAID = (users.c.switch_sequence, *LIMIT_COLUMNS)
# Not a join, which PostgreSQL may carry out by reading the whole table.
_RETENTION = select(history_settings.c.retention_s).where(history_settings.c.user_id == users.c.id).scalar_subquery()
_LATEST = Question(lambda _: select(feed_head.c.sequence))
_OWNERS = Question(
    lambda among: select(users.c.id, users.c.tokens_valid_from_ms, _RETENTION, *LIMIT_COLUMNS).where(
        among(users.c.id, "asked")
    )
)
_EDGES = Question(
    lambda among: (
        select(friendships.c.user_id, friendships.c.friend_id, friendships.c.shows, friendships.c.sees, *_SAID)
        .join(users, users.c.id == friendships.c.friend_id)
        .where(among(friendships.c.user_id, "asked"))
    )
)


class FriendLists:
    """Reading friend lists."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def read(self, user_ids: Sequence[UserId]) -> list[FriendList | None]:
        """Return the friend lists of up to :data:`MAX_USERS` users in the same order; ``None``: no such user.

        All are read in one transaction, the position of the change feed included: whatever is not in a list has a
        greater sequence than the list's.

        Raises:
            StoreUnavailable: the database failed.
        """
        assert len(user_ids) <= MAX_USERS
        now_ms = self._clock()
        asked = {"asked": user_ids}
        head, owners, edges = await self._database.ask_together((_LATEST, {}), (_OWNERS, asked), (_EDGES, asked))
        friends: defaultdict[str, list[FriendEdge]] = defaultdict(list)
        for owner_id, friend_id, shows, sees, sequence_of_switch, paused, until_ms, windows, zone in edges:
            if paused or not (shows is sees is windows is None):
                said = said_of(paused, until_ms, windows, zone, now_ms=now_ms)
                plans = plan_in(shows), plan_in(sees)
                edge = FriendEdge(friend_id, said.sharing, sequence_of_switch, said.limits, *plans)
            else:
                edge = FriendEdge(friend_id, True, sequence_of_switch)
            friends[owner_id].append(edge)
        lists = {owner[0]: _list_of(owner, head[0][0], tuple(friends[owner[0]]), now_ms) for owner in owners}
        return [lists.get(user_id) for user_id in user_ids]


def _list_of(owner: Sequence[Any], sequence: int, friends: tuple[FriendEdge, ...], now_ms: int) -> FriendList:
    user_id, tokens_valid_from_ms, retention_s, *limits = owner
    said = said_of(*limits, now_ms=now_ms)
    return FriendList(user_id, sequence, said.sharing, tokens_valid_from_ms, friends, retention_s, said.limits)
