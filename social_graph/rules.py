"""Sharing rules: how exactly a user lets one friend see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change
from nearby.errors import NotFound
from nearby.model import UserId
from nearby.ports import Clock
from nearby.sharing import Decision, Rule, Tier, decide
from social_graph.database import Database
from social_graph.locks import hold
from social_graph.plans import RULE_COLUMNS, circle_rules, replan, rule_of
from social_graph.schema import friendships
from social_graph.sharing import said_by


@dataclass(frozen=True, slots=True)
class Sharing:
    """A rule towards a friend, and what it comes to with everything else that the owner says."""

    rule: Rule
    in_force: Decision


class SharingRules:
    """Reading and setting rules."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, owner_id: UserId, friend_id: UserId) -> Sharing:
        """Return how exactly ``owner_id`` lets ``friend_id`` see them.

        Raises:
            NotFound: ``friend_not_found``, they are not friends.
            StoreUnavailable: the database failed.
        """
        async with self._database.read() as connection:
            rule = await _rule(connection, owner_id, friend_id)
            return await _in_force(connection, owner_id, friend_id, rule, self._clock())

    async def set(
        self, owner_id: UserId, friend_id: UserId, tier: Tier, until_ms: int | None, *, openly: bool
    ) -> tuple[Sharing, list[Change]]:
        """Let ``friend_id`` see ``owner_id`` by ``tier``; return what that comes to and the changes to publish.

        With ``until_ms`` the rule that stands holds again from then on; without, this is the rule that stands.

        Raises:
            NotFound: ``friend_not_found``, they are not friends.
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        values: dict[str, Any] = {"sharing_openly": openly, "sharing_meanwhile": None, "sharing_until_ms": until_ms}
        values["sharing" if until_ms is None else "sharing_meanwhile"] = tier.label
        async with self._database.write() as connection:
            await hold(connection, owner_id, friend_id)
            await _rule(connection, owner_id, friend_id)
            await connection.execute(update(friendships).where(_pair(owner_id, friend_id)).values(values))
            changes = await replan(connection, owner_id, [friend_id], now_ms)
            rule = await _rule(connection, owner_id, friend_id)
            return await _in_force(connection, owner_id, friend_id, rule, now_ms), changes


def _pair(owner_id: UserId, friend_id: UserId) -> Any:
    return (friendships.c.user_id == owner_id) & (friendships.c.friend_id == friend_id)


async def _rule(connection: AsyncConnection, owner_id: UserId, friend_id: UserId) -> Rule:
    row = (await connection.execute(select(*RULE_COLUMNS).where(_pair(owner_id, friend_id)))).one_or_none()
    if row is None:
        raise NotFound("friend_not_found", "there is no such friend")
    return rule_of(row)


async def _in_force(
    connection: AsyncConnection, owner_id: UserId, friend_id: UserId, rule: Rule, now_ms: int
) -> Sharing:
    said = await said_by(connection, owner_id, now_ms)
    circles = await circle_rules(connection, owner_id, [friend_id])
    return Sharing(rule, decide(said.sharing, said.limits, rule, circles[friend_id], now_ms))
