"""Invite links: whoever shows the token of one becomes a friend of the user who made it.

Only hashes of tokens are stored; a plain SHA-256 is enough, since a token is 192 random bits. A token that is unknown,
expired, used up or revoked, or of somebody hidden by a block, is the same: not found.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, literal, select, tuple_, update

from nearby.errors import Conflict, NotFound
from nearby.model import UserId
from nearby.ports import Clock
from social_graph.database import Database
from social_graph.friendships import are_friends, befriend, check_room, find_friend
from social_graph.limits import Limits
from social_graph.locks import hold
from social_graph.requests import Befriended, delete_between
from social_graph.schema import invites, users
from social_graph.users import PERSON_COLUMNS, Person, person_of
from social_graph.visibility import exists_for

MAX_INVITES = 100
"""Open ones of one user."""

_TOKEN_BYTES = 24


@dataclass(frozen=True, slots=True)
class Invite:
    """An open invite, good for ``uses_left`` more of ``max_uses`` people until ``expires_ms`` (Unix milliseconds)."""

    invite_id: str
    uses_left: int
    max_uses: int
    created_ms: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class NewInvite:
    """An invite that has just been made, and the token, which cannot be had a second time."""

    invite: Invite
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invite as the person who holds its link sees it."""

    inviter: Person
    expires_ms: int


@dataclass(frozen=True, slots=True)
class InvitePage:
    """Open invites, newest first; ``next_after`` (instant, id) continues the list, ``None`` at its end."""

    invites: tuple[Invite, ...]
    next_after: tuple[int, str] | None


class Invites:
    """Making, showing, revoking and accepting invites."""

    def __init__(self, database: Database, clock: Clock, limits: Limits) -> None:
        self._database = database
        self._clock = clock
        self._limits = limits

    async def create(self, user_id: UserId, max_uses: int, lifetime_s: int) -> NewInvite:
        """Make an invite that ``max_uses`` people may accept within ``lifetime_s`` seconds.

        Raises:
            Conflict: ``too_many_invites``.
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        invite = Invite(str(uuid.uuid4()), max_uses, max_uses, now_ms, now_ms + lifetime_s * 1000)
        row = insert(invites).values(
            id=invite.invite_id,
            user_id=user_id,
            token_hash=_hash(token),
            uses_left=max_uses,
            max_uses=max_uses,
            created_ms=now_ms,
            expires_ms=invite.expires_ms,
        )
        open_ones = select(func.count()).select_from(invites).where(invites.c.user_id == user_id, _is_open(now_ms))
        async with self._database.write() as connection:
            await hold(connection, user_id)
            if (await connection.scalar(open_ones) or 0) >= MAX_INVITES:
                raise Conflict("too_many_invites", f"nobody may have more than {MAX_INVITES} open invites")
            await connection.execute(row)
        return NewInvite(invite, token)

    async def page(self, user_id: UserId, limit: int, after: tuple[int, str] | None = None) -> InvitePage:
        """Return up to ``limit`` open invites of ``user_id`` that follow ``after`` (``None``: from the newest on).

        Raises:
            StoreUnavailable: the database failed.
        """
        query = (
            select(invites)
            .where(invites.c.user_id == user_id, _is_open(self._clock()))
            .order_by(invites.c.created_ms.desc(), invites.c.id.desc())
            .limit(limit + 1)
        )
        if after is not None:
            position: ColumnElement[Any] = tuple_(invites.c.created_ms, invites.c.id)
            query = query.where(position < tuple_(literal(after[0]), literal(after[1])))
        rows = await self._database.rows(query)
        found = tuple(_invite_of(row) for row in rows[:limit])
        return InvitePage(found, (found[-1].created_ms, found[-1].invite_id) if len(rows) > limit else None)

    async def get(self, user_id: UserId, invite_id: str) -> Invite:
        """Return an open invite of ``user_id``'s own.

        Raises:
            NotFound: ``invite_not_found``.
            StoreUnavailable: the database failed.
        """
        mine = and_(invites.c.id == invite_id, invites.c.user_id == user_id, _is_open(self._clock()))
        rows = await self._database.rows(select(invites).where(mine))
        if not rows:
            raise _invite_not_found()
        return _invite_of(rows[0])

    async def revoke(self, user_id: UserId, invite_id: str) -> None:
        """End an invite of ``user_id``'s own; friendships made by it stay.

        Raises:
            NotFound: ``invite_not_found``.
            StoreUnavailable: the database failed.
        """
        mine = and_(invites.c.id == invite_id, invites.c.user_id == user_id, _is_open(self._clock()))
        async with self._database.write() as connection:
            result = await connection.execute(delete(invites).where(mine))
        if result.rowcount == 0:
            raise _invite_not_found()

    async def look_up(self, viewer_id: UserId, token: str) -> Invitation:
        """Return who invites, to ``viewer_id``, who has the link.

        Raises:
            NotFound: ``invite_not_found``.
            StoreUnavailable: the database failed.
        """
        rows = await self._database.rows(_by_token(token, viewer_id, self._clock()))
        if not rows:
            raise _invite_not_found()
        return Invitation(person_of(rows[0]), rows[0].expires_ms)

    async def accept(self, user_id: UserId, token: str) -> Befriended:
        """Make ``user_id`` a friend of who made the invite, which thereby has one use less.

        Raises:
            NotFound: ``invite_not_found``.
            Conflict: ``request_to_self``, ``already_friends``, ``too_many_friends``; then no use is taken.
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        query = _by_token(token, user_id, now_ms)
        async with self._database.write() as connection:
            inviter_id = _inviter_of((await connection.execute(query)).one_or_none())
            await hold(connection, user_id, inviter_id)
            # It may have been used up, or one may have blocked the other, while we waited.
            _inviter_of((await connection.execute(query)).one_or_none())
            if inviter_id == user_id:
                raise Conflict("request_to_self", "nobody can befriend themselves")
            if await are_friends(connection, user_id, inviter_id):
                raise Conflict("already_friends", "the two are friends already")
            for each in (user_id, inviter_id):
                await check_room(connection, each, self._limits.max_friends)
            used = update(invites).where(invites.c.token_hash == _hash(token))
            await connection.execute(used.values(uses_left=invites.c.uses_left - 1))
            await delete_between(connection, user_id, inviter_id)
            change = await befriend(connection, user_id, inviter_id, now_ms)
            return Befriended(await find_friend(connection, user_id, inviter_id, now_ms), [change])

    async def delete_expired(self, limit: int = 1_000) -> int:
        """Delete up to ``limit`` invites that have expired or are used up; return how many.

        Raises:
            StoreUnavailable: the database failed.
        """
        due = select(invites.c.id).where(invites.c.expires_ms <= self._clock()).limit(limit)
        async with self._database.write() as connection:
            return (await connection.execute(delete(invites).where(invites.c.id.in_(due)))).rowcount


def _is_open(now_ms: int) -> ColumnElement[bool]:
    return and_(invites.c.expires_ms > now_ms, invites.c.uses_left > 0)


def _by_token(token: str, viewer_id: UserId, now_ms: int) -> Any:
    return (
        select(*PERSON_COLUMNS, invites.c.expires_ms)
        .join(invites, invites.c.user_id == users.c.id)
        .where(invites.c.token_hash == _hash(token), _is_open(now_ms), exists_for(viewer_id))
    )


def _inviter_of(row: Row[*tuple[Any, ...]] | None) -> UserId:
    if row is None:
        raise _invite_not_found()
    return UserId(row.id)


def _invite_of(row: Row[*tuple[Any, ...]]) -> Invite:
    return Invite(row.id, row.uses_left, row.max_uses, row.created_ms, row.expires_ms)


def _invite_not_found() -> NotFound:
    return NotFound("invite_not_found", "there is no such invite, or it is no longer open")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
