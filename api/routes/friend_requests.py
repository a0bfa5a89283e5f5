"""``/v1/friend-requests``: asking for friendship and answering."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Response

from api.auth import Caller
from api.cursors import PAGE_COUNT, Cursor, InstantPosition, Limit, decode_cursor, encode_cursor
from api.problems import documented
from api.schemas import (
    FriendBody,
    FriendRequestBody,
    FriendRequestPageBody,
    NewFriendRequest,
    SentRequestBody,
    user_id_of,
)
from api.services import Services, ServicesDep
from nearby.model import UserId
from social_graph.requests import FriendRequest

router = APIRouter(prefix="/v1/friend-requests", tags=["friend requests"])

_BEFRIENDED: dict[int | str, dict[str, Any]] = {
    200: {"model": FriendBody, "description": "They had asked me: now we are friends"}
}


@router.post(
    "",
    status_code=201,
    response_model=SentRequestBody | FriendBody,
    responses={**documented(401, 404, 409), **_BEFRIENDED},
)
async def ask(
    services: ServicesDep, caller: Caller, body: NewFriendRequest, response: Response
) -> SentRequestBody | FriendBody:
    """Ask somebody for friendship. 404 ``user_not_found``: nobody, or one of us has blocked the other.

    409 ``request_to_self``, ``already_friends``, ``request_exists``, ``too_many_friends``; 429
    ``too_many_requests_today``.
    """
    addressee = await _addressee(services, caller.user_id, body)
    outcome = await services.graph.requests.send(caller.user_id, addressee)
    if isinstance(outcome, FriendRequest):
        return SentRequestBody.of(outcome)
    await services.announcer.announce(outcome.changes)
    response.status_code = 200
    return FriendBody.of_friend(outcome.friend)


async def _addressee(services: Services, caller_id: UserId, body: NewFriendRequest) -> UserId:
    if body.handle is not None:
        return (await services.graph.users.by_handle(body.handle, caller_id)).user_id
    assert body.user_id is not None
    return user_id_of(body.user_id)


@router.get("", responses=documented(401))
async def list_requests(
    services: ServicesDep,
    caller: Caller,
    direction: Literal["incoming", "outgoing"],
    limit: Limit = PAGE_COUNT,
    cursor: Cursor = None,
) -> FriendRequestPageBody:
    """List the pending requests to me (``incoming``) or from me (``outgoing``), newest first."""
    after = None if cursor is None else decode_cursor(cursor, InstantPosition)
    page = await services.graph.requests.page(caller.user_id, direction, limit, after)
    return FriendRequestPageBody(
        items=[FriendRequestBody.of(request) for request in page.requests],
        next_cursor=encode_cursor(page.next_after),
    )


@router.post("/{request_id}/accept", responses=documented(401, 403, 404, 409))
async def accept(services: ServicesDep, caller: Caller, request_id: UUID) -> FriendBody:
    """Accept a request to me. 403 ``not_addressee`` for my own, 404 ``request_not_found`` for any other.

    409 ``too_many_friends``, on either side.
    """
    befriended = await services.graph.requests.accept(caller.user_id, str(request_id))
    await services.announcer.announce(befriended.changes)
    return FriendBody.of_friend(befriended.friend)


@router.post("/{request_id}/decline", status_code=204, responses=documented(401, 403, 404))
async def decline(services: ServicesDep, caller: Caller, request_id: UUID) -> None:
    """Decline a request to me. 403 ``not_addressee`` for my own, 404 ``request_not_found`` for any other."""
    await services.graph.requests.decline(caller.user_id, str(request_id))


@router.delete("/{request_id}", status_code=204, responses=documented(401, 403, 404))
async def cancel(services: ServicesDep, caller: Caller, request_id: UUID) -> None:
    """Take back a request of mine. 403 ``not_sender`` for one to me, 404 ``request_not_found`` for any other."""
    await services.graph.requests.cancel(caller.user_id, str(request_id))
