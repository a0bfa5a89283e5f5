"""Who exists for whom. A block hides each of the two from the other, as if they had never been."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, exists, or_

from nearby.model import UserId
from social_graph.schema import blocks, users


def exists_for(viewer_id: UserId) -> ColumnElement[bool]:
    """Return the condition that a row of ``users`` exists as far as ``viewer_id`` can tell.

    It is part of the query that looks the user up, so that somebody hidden costs what somebody unknown costs.
    """
    either_way = or_(
        and_(blocks.c.user_id == viewer_id, blocks.c.blocked_id == users.c.id),
        and_(blocks.c.user_id == users.c.id, blocks.c.blocked_id == viewer_id),
    )
    return ~exists().where(either_way)
