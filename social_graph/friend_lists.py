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
from social_graph.plans import plan_in
from social_graph.rights_schema import history_settings
from social_graph.schema import friendships, users
from social_graph.sharing import LIMIT_COLUMNS, said_of

MAX_USERS = 1000
"""Users per call, well below the number of parameters that either database takes in one statement."""

_SAID = (users.c.switch_sequence, *LIMIT_COLUMNS)
# Not a join, which PostgreSQL may carry out by reading the whole table.
_RETENTION = select(history_settings.c.retention_s).where(history_settings.c.user_id == users.c.id).scalar_subquery()
_OWNERS = select(users.c.id, users.c.tokens_valid_from_ms, _RETENTION.label("retention_s"), *_SAID)
_EDGES = select(friendships.c.user_id, friendships.c.friend_id, friendships.c.shows, friendships.c.sees, *_SAID).join(
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
            rows = await connection.execute(edges_query)
            for owner_id, friend_id, shows, sees, sequence_of_switch, paused, until_ms, windows, zone in rows:
                if paused or not (shows is sees is windows is None):
                    said = said_of(paused, until_ms, windows, zone, now_ms=now_ms)
                    plans = plan_in(shows), plan_in(sees)
                    edge = FriendEdge(friend_id, said.sharing, sequence_of_switch, said.limits, *plans)
                else:
                    edge = FriendEdge(friend_id, True, sequence_of_switch)
                edges[owner_id].append(edge)
        return [
            _list_of(owners[user_id], sequence, tuple(edges[user_id]), now_ms) if user_id in owners else None
            for user_id in user_ids
        ]


def _list_of(row: Row[*tuple[Any, ...]], sequence: int, friends: tuple[FriendEdge, ...], now_ms: int) -> FriendList:
    said = said_of(row.sharing_paused, row.sharing_paused_until_ms, row.sharing_windows, row.time_zone, now_ms=now_ms)
    return FriendList(row.id, sequence, said.sharing, row.tokens_valid_from_ms, friends, row.retention_s, said.limits)
