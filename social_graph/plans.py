"""What rules and circles come to between two friends, worked out at each change and kept with the friendship.

Whoever changes a rule calls :func:`replan` in the same transaction: the plans on both sides of the friendship and the
change feed are then true together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import Row, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change, FriendshipChanged
from nearby.model import UserId
from nearby.sharing import EXACT, CircleRule, Rule, Tier, TierPlan, plan_of
from social_graph.changes import UNNUMBERED, append_all
from social_graph.database import among
from social_graph.schema import circle_members, circles, friendships, users
from social_graph.sharing import LIMIT_COLUMNS, said_by, said_of

RULE_COLUMNS = (
    friendships.c.sharing,
    friendships.c.sharing_meanwhile,
    friendships.c.sharing_until_ms,
    friendships.c.sharing_openly,
)


def rule_of(row: Row[*tuple[Any, ...]]) -> Rule:
    """Return the rule in a row with the :data:`RULE_COLUMNS`."""
    return rule_in(row.sharing, row.sharing_meanwhile, row.sharing_until_ms, row.sharing_openly)


def rule_in(standing: str, meanwhile: str | None, until_ms: int | None, openly: bool) -> Rule:
    """Return the rule in the :data:`RULE_COLUMNS`."""
    return Rule(Tier.of(standing), None if meanwhile is None else Tier.of(meanwhile), until_ms, openly)


def column_of(plan: TierPlan) -> str | None:
    """Return ``plan`` as the database keeps it."""
    return None if plan is EXACT else msgspec.json.encode(plan).decode()


def plan_in(column: str | None) -> TierPlan:
    """Return the plan that the database keeps in ``column``."""
    return EXACT if column is None else _decoded(column)


@lru_cache(maxsize=10_000)
def _decoded(text: str) -> TierPlan:
    return msgspec.json.decode(text, type=TierPlan)


async def announce_friendships(
    connection: AsyncConnection, user_id: UserId, friend_ids: Sequence[UserId], now_ms: int
) -> list[Change]:
    """Say in the feed, in the transaction that makes it true, what there is between ``user_id`` and each of these.

    Return the changes, in the order of the friends' ids.
    """
    query = (
        select(friendships.c.friend_id, friendships.c.sees, friendships.c.shows, *LIMIT_COLUMNS)
        .join(users, users.c.id == friendships.c.friend_id)
        .where(friendships.c.user_id == user_id, among(connection, friendships.c.friend_id, friend_ids))
        .order_by(friendships.c.friend_id)
    )
    user = await said_by(connection, user_id, now_ms)
    changes: list[Change] = []
    for friend_id, sees, shows, *limits in await connection.execute(query):
        friend = said_of(*limits, now_ms=now_ms)
        changes.append(
            FriendshipChanged(
                UNNUMBERED,
                user_id,
                friend_id,
                True,
                user.sharing,
                friend.sharing,
                user.limits,
                friend.limits,
                plan_in(sees),
                plan_in(shows),
            )
        )
    return await append_all(connection, changes, now_ms)


async def circle_rules(
    connection: AsyncConnection, owner_id: UserId, friend_ids: Sequence[UserId]
) -> dict[UserId, list[CircleRule]]:
    """Return for each of ``friend_ids`` the rules of the circles of ``owner_id`` that they are in."""
    query = (
        select(circle_members.c.friend_id, circles.c.sharing, circles.c.sharing_until_ms)
        .join(circles, (circles.c.user_id == circle_members.c.user_id) & (circles.c.id == circle_members.c.circle_id))
        .where(circle_members.c.user_id == owner_id, among(connection, circle_members.c.friend_id, friend_ids))
    )
    rules: dict[UserId, list[CircleRule]] = {friend_id: [] for friend_id in friend_ids}
    for friend_id, sharing, until_ms in await connection.execute(query):
        rules[friend_id].append(CircleRule(Tier.of(sharing), until_ms))
    return rules


async def replan(
    connection: AsyncConnection, owner_id: UserId, friend_ids: Sequence[UserId], now_ms: int
) -> list[Change]:
    """Work out anew what each of ``friend_ids`` may see of ``owner_id``; return the changes to publish.

    Friends for whom nothing changes are left out.
    """
    if not friend_ids:
        return []
    of_owner = friendships.c.user_id == owner_id
    query = select(friendships.c.friend_id, friendships.c.sees, *RULE_COLUMNS).where(
        of_owner, among(connection, friendships.c.friend_id, friend_ids)
    )
    by_circle = await circle_rules(connection, owner_id, friend_ids)
    planned = {}
    for row in (await connection.execute(query)).all():
        plan = column_of(plan_of(rule_of(row), by_circle[row.friend_id], now_ms))
        if plan != row.sees:
            planned[row.friend_id] = plan
    if not planned:
        return []
    rows = [{"owner": owner_id, "other": friend_id, "plan": plan} for friend_id, plan in planned.items()]
    user, friend = friendships.c.user_id, friendships.c.friend_id
    mine = update(friendships).where(user == bindparam("owner"), friend == bindparam("other"))
    theirs = update(friendships).where(user == bindparam("other"), friend == bindparam("owner"))
    await connection.execute(mine.values(sees=bindparam("plan")), rows)
    await connection.execute(theirs.values(shows=bindparam("plan")), rows)
    return await announce_friendships(connection, owner_id, list(planned), now_ms)
