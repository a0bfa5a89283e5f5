"""``/v1/invites``: making, showing and revoking links that make whoever holds one a friend."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from api.auth import Caller
from api.cursors import PAGE_COUNT, Cursor, InstantPosition, Limit, decode_cursor, encode_cursor
from api.invite_schemas import InviteBody, InvitePageBody, InviteWish, NewInviteBody
from api.problems import documented
from api.services import ServicesDep

router = APIRouter(prefix="/v1/invites", tags=["invites"])


@router.post("", status_code=201, responses=documented(401, 409))
async def create_invite(services: ServicesDep, caller: Caller, body: InviteWish, response: Response) -> NewInviteBody:
    """Make an invite. 409 ``too_many_invites``."""
    made = await services.graph.invites.create(caller.user_id, body.max_uses, body.expires_in_s)
    response.headers["Cache-Control"] = "no-store"
    return NewInviteBody.of_new(made, services.invite_link_base)


@router.get("", responses=documented(401))
async def list_invites(
    services: ServicesDep,
    caller: Caller,
    limit: Limit = PAGE_COUNT,
    cursor: Cursor = None,
) -> InvitePageBody:
    """List my open invites, newest first."""
    after = None if cursor is None else decode_cursor(cursor, InstantPosition)
    page = await services.graph.invites.page(caller.user_id, limit, after)
    return InvitePageBody(
        items=[InviteBody.of(invite) for invite in page.invites],
        next_cursor=encode_cursor(page.next_after),
    )


@router.get("/{invite_id}", responses=documented(401, 404))
async def show_invite(services: ServicesDep, caller: Caller, invite_id: UUID) -> InviteBody:
    """Show an open invite of mine. 404 ``invite_not_found``."""
    return InviteBody.of(await services.graph.invites.get(caller.user_id, str(invite_id)))


@router.delete("/{invite_id}", status_code=204, responses=documented(401, 404))
async def revoke_invite(services: ServicesDep, caller: Caller, invite_id: UUID) -> None:
    """End an invite of mine; friendships made by it stay. 404 ``invite_not_found``."""
    await services.graph.invites.revoke(caller.user_id, str(invite_id))
