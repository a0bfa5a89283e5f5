"""Friend lists as gateways need them, many at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from nearby.model import FriendEdge, FriendList, UserId
from nearby.ports import Clock
from social_graph.changes import latest
from social_graph.database import Database, among
from social_graph.rights_schema import history_settings
from social_graph.schema import friendships, users
from social_graph.sharing import shares

MAX_USERS = 1000
"""Users per call, well below the number of parameters that either database takes in one statement."""

_SWITCH = (users.c.sharing_paused, users.c.sharing_paused_until_ms, users.c.switch_sequence)
# Not a join, which PostgreSQL may carry out by reading the whole table.
_RETENTION = select(history_settings.c.retention_s).where(history_settings.c.user_id == users.c.id).scalar_subquery()
_OWNERS = select(users.c.id, users.c.tokens_valid_from_ms, _RETENTION.label("retention_s"), *_SWITCH)
_EDGES = select(friendships.c.user_id, friendships.c.friend_id, *_SWITCH).join(
    users, users.c.id == friendships.c.friend_id
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
        async with self._database.read() as connection:
            sequence = await latest(connection)
            owners_query = _OWNERS.where(among(connection, users.c.id, user_ids))
            owners = {row.id: row for row in await connection.execute(owners_query)}
            edges_query = _EDGES.where(among(connection, friendships.c.user_id, user_ids))
            edges: defaultdict[str, list[FriendEdge]] = defaultdict(list)
            # Unpacking, because looking columns up by name takes longer than all the rest.
            for owner_id, friend_id, paused, until_ms, sequence_of_switch in await connection.execute(edges_query):
                edge = FriendEdge(friend_id, shares(paused, until_ms, now_ms), sequence_of_switch)
                edges[owner_id].append(edge)
        return [
            _list_of(owners[user_id], sequence, tuple(edges[user_id]), now_ms) if user_id in owners else None
            for user_id in user_ids
        ]


def _list_of(row: Row[*tuple[Any, ...]], sequence: int, friends: tuple[FriendEdge, ...], now_ms: int) -> FriendList:
    sharing = shares(row.sharing_paused, row.sharing_paused_until_ms, now_ms)
    return FriendList(row.id, sequence, sharing, row.tokens_valid_from_ms, friends, row.retention_s)
