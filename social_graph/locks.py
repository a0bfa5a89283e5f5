"""Holding users, so that nothing about them changes between a check and the write that relies on it."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.model import UserId
from social_graph import sqlite
from social_graph.database import among
from social_graph.schema import users


async def hold(connection: AsyncConnection, *user_ids: UserId) -> None:
    """Wait until no other write transaction holds one of ``user_ids``; then they are this transaction's to its end.

    To be called once, before anything is read that must not change, and before the change feed is appended to:
    rows are then locked in one order everywhere (users by id, then the head of the feed), so nothing deadlocks. Users
    who do not exist are not held.
    """
    if connection.dialect.name == sqlite.SCHEME:
        return  # there is no other write transaction
    rows = select(users.c.id).where(among(connection, users.c.id, user_ids)).order_by(users.c.id)
    # NO KEY, so that rows which merely refer to a user can be added meanwhile.
    await connection.execute(rows.with_for_update(key_share=True))
