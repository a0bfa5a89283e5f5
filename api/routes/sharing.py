"""``/v1/me/sharing`` and ``/v1/friends/{user_id}/sharing``: who sees me, how exactly, and when."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from api.auth import Caller
from api.cursors import PAGE_COUNT, Cursor, IdPosition, Limit, decode_cursor, encode_cursor
from api.etags import IfMatch, only_if
from api.problems import documented, invalid_request
from api.schemas import user_id_of
from api.services import Services, ServicesDep
from api.sharing_schemas import (
    FriendSharing,
    FriendSharingBody,
    MySharing,
    MySharingBody,
    ViewerBody,
    ViewerPageBody,
)
from nearby.model import UserId
from nearby.sharing import Tier
from social_graph.sharing import Settings, Switch

router = APIRouter(prefix="/v1", tags=["sharing"])


@router.get("/me/sharing", responses=documented(401))
async def sharing(services: ServicesDep, caller: Caller) -> MySharingBody:
    """Return whether I share at all, when I share less, and what friends to come will see."""
    return await _mine(services, caller.user_id)


@router.put("/me/sharing", responses=documented(401, 412))
async def set_sharing(
    services: ServicesDep, caller: Caller, body: MySharing, if_match: IfMatch = None
) -> MySharingBody:
    """Pause sharing with everyone, until an instant or until resumed, or resume it; set windows and the default."""
    refuse_past(services, body.until_ms)
    switches, check = services.graph.sharing, only_if(if_match, _body)
    if body.state == "on":
        changes = await switches.resume(caller.user_id, body.settings(), check)
    else:
        changes = await switches.pause(caller.user_id, body.until_ms, body.settings(), check)
    await services.announcer.announce(changes)
    return await _mine(services, caller.user_id)


async def _mine(services: Services, user_id: UserId) -> MySharingBody:
    switches = services.graph.sharing
    return _body((await switches.get(user_id), await switches.settings(user_id)))


def _body(found: tuple[Switch, Settings]) -> MySharingBody:
    return MySharingBody.of(*found)


@router.get("/me/viewers", responses=documented(401))
async def viewers(
    services: ServicesDep,
    caller: Caller,
    limit: Limit = PAGE_COUNT,
    cursor: Cursor = None,
) -> ViewerPageBody:
    """List who may see me, how exactly and why, and when they last got a location of mine. Ordered by user id."""
    after = None if cursor is None else UserId(decode_cursor(cursor, IdPosition))
    page = await services.graph.viewers.page(caller.user_id, limit, after)
    return ViewerPageBody(
        items=[ViewerBody.of_viewer(viewer) for viewer in page.viewers],
        next_cursor=encode_cursor(page.next_after),
    )


@router.get("/friends/{user_id}/sharing", responses=documented(401, 404))
async def sharing_with(services: ServicesDep, caller: Caller, user_id: UUID) -> FriendSharingBody:
    """Return my rule towards a friend, and what they may see of me now. 404 ``friend_not_found``."""
    found = await services.graph.rules.get(caller.user_id, user_id_of(user_id))
    return FriendSharingBody.of(found, services.clock())


@router.put("/friends/{user_id}/sharing", responses=documented(401, 404))
async def set_sharing_with(
    services: ServicesDep, caller: Caller, user_id: UUID, body: FriendSharing
) -> FriendSharingBody:
    """Set my rule towards a friend, until an instant or for good. 404 ``friend_not_found``.

    Once this is answered, every gateway enforces it within 2 s, whatever else fails.
    """
    refuse_past(services, body.until_ms)
    tier = Tier.of(body.precision)
    found, changes = await services.graph.rules.set(
        caller.user_id, user_id_of(user_id), tier, body.until_ms, openly=body.openly
    )
    await services.announcer.announce(changes)
    return FriendSharingBody.of(found, services.clock())


def refuse_past(services: Services, until_ms: int | None) -> None:
    """Refuse an end that has passed."""
    if until_ms is not None and until_ms <= services.clock():
        raise invalid_request("body.until_ms: in the past")
