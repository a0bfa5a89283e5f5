"""The bodies of requests and answers about invites and blocks; see :mod:`api.schemas`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from api.schemas import PersonBody, Request, encodable
from social_graph.blocks import Block
from social_graph.invites import Invitation, Invite, NewInvite

MAX_INVITE_LIFETIME_S = 30 * 86_400


class InviteWish(Request):
    """An invite to make: for how many people, and for how long."""

    max_uses: Annotated[int, Field(ge=1, le=100)] = 1
    expires_in_s: Annotated[int, Field(ge=60, le=MAX_INVITE_LIFETIME_S)] = 7 * 86_400


class InviteToken(Request):
    """The token of an invite: what follows # in its link."""

    token: Annotated[SecretStr, Field(min_length=1, max_length=100), AfterValidator(encodable)]


class InviteBody(BaseModel):
    """An open invite of mine."""

    invite_id: str
    uses_left: int
    max_uses: int
    created_ms: int
    expires_ms: int

    @classmethod
    def of(cls, invite: Invite) -> InviteBody:
        """Return ``invite`` as a body."""
        return cls.model_validate(invite, from_attributes=True)


class NewInviteBody(InviteBody):
    """An invite just made. ``token`` and ``link`` are shown this once."""

    token: str
    link: str

    @classmethod
    def of_new(cls, made: NewInvite, link_base: str) -> NewInviteBody:
        """Return ``made`` as a body."""
        fields = InviteBody.of(made.invite).model_dump()
        return cls(**fields, token=made.token, link=f"{link_base}#{made.token}")


class InvitePageBody(BaseModel):
    """My open invites, newest first; ``next_cursor`` is null at the end."""

    items: list[InviteBody]
    next_cursor: str | None


class InvitationBody(BaseModel):
    """Who invites me."""

    inviter: PersonBody
    expires_ms: int

    @classmethod
    def of(cls, invitation: Invitation) -> InvitationBody:
        """Return ``invitation`` as a body."""
        return cls(inviter=PersonBody.of(invitation.inviter), expires_ms=invitation.expires_ms)


class BlockBody(BaseModel):
    """An id that I block. ``person`` is null if nobody (whom I may know) has it."""

    user_id: str
    since_ms: int
    person: PersonBody | None

    @classmethod
    def of(cls, block: Block) -> BlockBody:
        """Return ``block`` as a body."""
        person = None if block.person is None else PersonBody.of(block.person)
        return cls(user_id=block.user_id, since_ms=block.since_ms, person=person)


class BlockPageBody(BaseModel):
    """Whom I block, ordered by user id; ``next_cursor`` is null at the end."""

    items: list[BlockBody]
    next_cursor: str | None
