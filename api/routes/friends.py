"""``/v1/friends``: listing and removing friends."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec
from fastapi import APIRouter, Response

from api.auth import Caller
from api.cursors import PAGE_COUNT, Cursor, IdPosition, Limit, decode_cursor, encode_cursor
from api.plain_reads import PlainRead
from api.problems import documented
from api.schemas import FriendPageBody, user_id_of
from api.services import ServicesDep
from nearby.model import UserId
from social_graph.friendships import Friend

_encoder = msgspec.json.Encoder()

router = APIRouter(prefix="/v1/friends", tags=["friends"], route_class=PlainRead)


class _Page(msgspec.Struct):
    """A FriendPageBody, which pydantic would take longer to make than the database to find its friends."""

    items: Sequence[Friend]
    next_cursor: str | None


@router.get("", responses=documented(401), response_model=FriendPageBody)
async def list_friends(
    services: ServicesDep,
    caller: Caller,
    limit: Limit = PAGE_COUNT,
    cursor: Cursor = None,
) -> Response:
    """List my friends, ordered by user id."""
    after = None if cursor is None else UserId(decode_cursor(cursor, IdPosition))
    page = await services.graph.friendships.page(caller.user_id, limit, after)
    next_cursor = encode_cursor(page.next_after)
    return Response(_encoder.encode(_Page(page.friends, next_cursor)), media_type="application/json")


@router.delete("/{user_id}", status_code=204, responses=documented(401, 404))
async def remove_friend(services: ServicesDep, caller: Caller, user_id: UUID) -> None:
    """End a friendship, for both. 404 ``friend_not_found``."""
    changes = await services.graph.friendships.remove(caller.user_id, user_id_of(user_id))
    await services.announcer.announce(changes)
