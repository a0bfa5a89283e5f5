"""Credentials: signing up, logging in, changing the password and logging out everywhere."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from sqlalchemy import case, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.changes import Change, TokensRevoked
from nearby.errors import Conflict, NotAllowed
from nearby.model import MAX_SEQ, UserId
from nearby.ports import Clock
from social_graph.changes import UNNUMBERED, append, append_all
from social_graph.database import Database, among
from social_graph.gathering import Gathering
from social_graph.locks import hold
from social_graph.passwords import NO_PASSWORD, Passwords
from social_graph.questions import Question
from social_graph.refresh_tokens import Grant, end_families, start_family
from social_graph.schema import users
from social_graph.users import Person, find_person, is_handle

_NEVER_MS = MAX_SEQ
"""From when on the tokens of somebody who is banned are good."""

_VALID_FROM = Question(lambda among: select(users.c.id, users.c.tokens_valid_from_ms).where(among(users.c.id, "asked")))


class Credentials:
    """What proves that somebody is a user, and its end. :meth:`run` must be running."""

    def __init__(self, database: Database, clock: Clock, passwords: Passwords, refresh_lifetime_s: int) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._refresh_lifetime_s = refresh_lifetime_s
        # Asked with each request to the API.
        self._valid_from = Gathering(self._fetch_valid_from)

    async def sign_up(self, handle: str, password: str, display_name: str) -> Person:
        """Create a user who shares with friends to come.

        Raises:
            Conflict: ``handle_taken``.
            StoreUnavailable: the database failed.
        """
        person = Person(UserId(str(uuid.uuid4())), handle, display_name)
        row = insert(users).values(
            id=person.user_id,
            handle=handle,
            display_name=display_name,
            password_hash=await self._passwords.hash(password),
            sharing_paused=False,
            switch_sequence=0,
            tokens_valid_from_ms=0,
            created_ms=self._clock(),
        )
        try:
            async with self._database.write() as connection:
                await connection.execute(row)
        except IntegrityError as error:
            raise Conflict("handle_taken", "another user has this handle") from error
        return person

    async def log_in(self, handle: str, password: str) -> Grant | None:
        """Return what a log-in earns, or ``None`` if there is no such handle or the password is wrong.

        Both take the same time.

        Raises:
            NotAllowed: ``banned``.
            StoreUnavailable: the database failed, or too many passwords wait to be checked.
        """
        query = select(users.c.id, users.c.password_hash).where(users.c.handle == handle)
        rows = await self._database.rows(query) if is_handle(handle) else []
        if not rows or rows[0].password_hash == NO_PASSWORD:
            await self._passwords.verify_nobody(password)
            return None
        row = rows[0]
        if not await self._passwords.verify(row.password_hash, password):
            return None
        return await self._grant(UserId(row.id), row.password_hash)

    async def _grant(self, user_id: UserId, password_hash: str) -> Grant | None:
        now_ms = self._clock()
        # The password may have been changed while the old one was being checked.
        unchanged = select(users.c.tokens_valid_from_ms).where(
            users.c.id == user_id, users.c.password_hash == password_hash
        )
        async with self._database.write() as connection:
            await hold(connection, user_id)
            valid_from_ms = await connection.scalar(unchanged)
            if valid_from_ms is None:
                return None
            if valid_from_ms == _NEVER_MS:
                raise NotAllowed("banned", "this account is banned")
            token = await start_family(connection, user_id, now_ms, self._refresh_lifetime_s)
        return Grant(user_id, token, max(now_ms, valid_from_ms))

    async def change_password(self, user_id: UserId, password: str, issued_at_ms: int) -> list[Change]:
        """Replace the password and log ``user_id`` out everywhere; arguments and result as in :meth:`revoke_tokens`.

        Raises:
            StoreUnavailable: the database failed.
        """
        password_hash = await self._passwords.hash(password)
        async with self._database.write() as connection:
            await hold(connection, user_id)
            await connection.execute(update(users).where(users.c.id == user_id).values(password_hash=password_hash))
            return await self._revoke(connection, user_id, issued_at_ms)

    async def revoke_tokens(self, user_id: UserId, issued_at_ms: int) -> list[Change]:
        """End every access and refresh token issued so far; return the changes to publish.

        ``issued_at_ms`` is when the access token that asks was issued: it is revoked even if the server that
        issued it has a clock ahead of ours.

        Raises:
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            await hold(connection, user_id)
            return await self._revoke(connection, user_id, issued_at_ms)

    async def revoke_tokens_of(self, user_ids: Sequence[UserId]) -> list[Change]:
        """End every access and refresh token of each of ``user_ids``, at once; return the changes to publish.

        Passed over are those who do not exist, and who are banned, since they have none.

        Raises:
            StoreUnavailable: the database failed.
        """
        valid_from = users.c.tokens_valid_from_ms
        async with self._database.write() as connection:
            await hold(connection, *user_ids)
            now_ms = self._clock()
            later = (
                update(users)
                .where(among(connection, users.c.id, user_ids), valid_from < _NEVER_MS)
                # Behind what was stored, too: a server whose clock is ahead may have issued a token since.
                .values(tokens_valid_from_ms=case((valid_from > now_ms, valid_from + 1), else_=now_ms + 1))
                .returning(users.c.id, valid_from)
            )
            rows = (await connection.execute(later)).all()
            if not rows:
                return []
            changes = [TokensRevoked(UNNUMBERED, UserId(row[0]), row[1]) for row in rows]
            await end_families(connection, *(change.user_id for change in changes))
            return [*await append_all(connection, changes, now_ms)]

    async def _revoke(self, connection: AsyncConnection, user_id: UserId, issued_at_ms: int) -> list[Change]:
        now_ms = self._clock()
        stored_ms = await connection.scalar(select(users.c.tokens_valid_from_ms).where(users.c.id == user_id))
        if stored_ms is None:
            return []
        valid_from_ms = max(now_ms + 1, issued_at_ms + 1, stored_ms)
        await connection.execute(update(users).where(users.c.id == user_id).values(tokens_valid_from_ms=valid_from_ms))
        await end_families(connection, user_id)
        return [await append(connection, TokensRevoked(UNNUMBERED, user_id, valid_from_ms), now_ms)]

    async def ban(self, user_id: UserId) -> list[Change]:
        """Log ``user_id`` out everywhere and let nobody log in until :meth:`lift_ban`; return the changes to publish.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            await hold(connection, user_id)
            await _set_valid_from(connection, user_id, _NEVER_MS)
            await end_families(connection, user_id)
            return [await append(connection, TokensRevoked(UNNUMBERED, user_id, _NEVER_MS), self._clock())]

    async def lift_ban(self, user_id: UserId) -> None:
        """Let ``user_id`` log in again; tokens of before stay revoked. Nothing happens to who is not banned.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database failed.
        """
        async with self._database.write() as connection:
            if await connection.scalar(select(users.c.tokens_valid_from_ms).where(users.c.id == user_id)) != _NEVER_MS:
                await find_person(connection, user_id, user_id)
                return
            await _set_valid_from(connection, user_id, self._clock() + 1)

    async def valid_from_ms(self, user_id: UserId) -> int | None:
        """Return the instant (Unix milliseconds) before which access tokens are revoked; ``None``: no such user.

        Raises:
            StoreUnavailable: the database failed.
        """
        return await self._valid_from.get(user_id)

    async def run(self) -> None:
        """Answer :meth:`valid_from_ms`, until cancelled."""
        await self._valid_from.run()

    async def _fetch_valid_from(self, user_ids: Sequence[UserId]) -> Mapping[UserId, int]:
        rows = await self._database.ask(_VALID_FROM, asked=user_ids)
        return {UserId(row[0]): row[1] for row in rows}


async def _set_valid_from(connection: AsyncConnection, user_id: UserId, valid_from_ms: int) -> None:
    await find_person(connection, user_id, user_id)
    await connection.execute(update(users).where(users.c.id == user_id).values(tokens_valid_from_ms=valid_from_ms))
