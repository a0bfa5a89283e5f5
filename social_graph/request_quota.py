"""How many friend requests a user has sent today; a day is one of UTC."""

from __future__ import annotations

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.errors import QuotaSpent
from nearby.model import UserId
from social_graph.limits import MS_PER_DAY
from social_graph.schema import request_counts


async def take(connection: AsyncConnection, user_id: UserId, per_day: int, now_ms: int) -> None:
    """Count one more request of ``user_id``, who is held. A transaction that fails afterwards has not counted it.

    Raises:
        QuotaSpent: ``too_many_requests_today``.
    """
    if not per_day:
        return
    day, of_day_ms = divmod(now_ms, MS_PER_DAY)
    mine = request_counts.c.user_id == user_id
    row = (await connection.execute(select(request_counts).where(mine))).one_or_none()
    if row is None:
        await connection.execute(insert(request_counts).values(user_id=user_id, day=day, sent=1))
        return
    sent = row.sent if row.day == day else 0
    if sent >= per_day:
        detail = f"nobody may send more than {per_day} friend requests a day"
        raise QuotaSpent("too_many_requests_today", detail, -(-(MS_PER_DAY - of_day_ms) // 1000))
    await connection.execute(update(request_counts).where(mine).values(day=day, sent=sent + 1))
