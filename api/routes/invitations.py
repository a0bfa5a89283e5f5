"""``/v1/invitations``: an invite as whoever holds its link sees it.

A token travels in bodies and, in a link, after ``#``: never in what a server or a log gets to see of a URL.
"""

from __future__ import annotations

from fastapi import APIRouter

from api.auth import Caller
from api.invite_schemas import InvitationBody, InviteToken
from api.problems import documented
from api.schemas import FriendBody
from api.services import ServicesDep

router = APIRouter(prefix="/v1/invitations", tags=["invites"])


@router.post("/look-up", responses=documented(401, 404))
async def look_up_invite(services: ServicesDep, caller: Caller, body: InviteToken) -> InvitationBody:
    """Show who invites me, before I accept. 404 ``invite_not_found``: unknown, expired, used up or revoked."""
    invitation = await services.graph.invites.look_up(caller.user_id, body.token.get_secret_value())
    return InvitationBody.of(invitation)


@router.post("/accept", responses=documented(401, 404, 409))
async def accept_invite(services: ServicesDep, caller: Caller, body: InviteToken) -> FriendBody:
    """Become a friend of who made the invite. 404 ``invite_not_found``.

    409 ``request_to_self``, ``already_friends``, ``too_many_friends``; the invite is then not used.
    """
    befriended = await services.graph.invites.accept(caller.user_id, body.token.get_secret_value())
    await services.announcer.announce(befriended.changes)
    return FriendBody.of_friend(befriended.friend)
