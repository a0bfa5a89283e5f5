"""Users who are known to an issuer outside: each pair of issuer and subject is one user, made at first sight."""

from __future__ import annotations

import uuid

from sqlalchemy import ColumnElement, and_, insert, select
from sqlalchemy.exc import IntegrityError

from nearby.model import UserId
from nearby.ports import Clock
from social_graph.database import Database
from social_graph.locks import hold
from social_graph.passwords import NO_PASSWORD
from social_graph.refresh_tokens import Grant, start_family
from social_graph.schema import external_identities, users

_HANDLE_CHARACTERS = 20


class ExternalIdentities:
    """Finding and making users by what an outside issuer calls them."""

    def __init__(self, database: Database, clock: Clock, refresh_lifetime_s: int) -> None:
        self._database = database
        self._clock = clock
        self._refresh_lifetime_s = refresh_lifetime_s

    async def log_in(self, issuer: str, subject: str, display_name: str, issued_at_ms: int) -> Grant | None:
        """Return what a log-in earns to the user whom ``issuer`` calls ``subject``, by a token of ``issued_at_ms``.

        A user seen for the first time is made, with a handle nobody has chosen, ``display_name`` and no password. A
        subject is one user however many of their first requests come at once. ``None``: the user has logged out
        everywhere since the token was issued.

        Raises:
            StoreUnavailable: the database failed.
        """
        user_id = await self._find(issuer, subject)
        if user_id is None:
            try:
                user_id = await self._make(issuer, subject, display_name)
            except IntegrityError:
                # Another request of theirs was first.
                user_id = await self._find(issuer, subject)
                if user_id is None:
                    raise
        return await self._grant(user_id, issued_at_ms)

    async def _grant(self, user_id: UserId, issued_at_ms: int) -> Grant | None:
        now_ms = self._clock()
        async with self._database.write() as connection:
            await hold(connection, user_id)
            valid_from_ms = await connection.scalar(select(users.c.tokens_valid_from_ms).where(users.c.id == user_id))
            if valid_from_ms is None or issued_at_ms < valid_from_ms:
                return None
            token = await start_family(connection, user_id, now_ms, self._refresh_lifetime_s)
        return Grant(user_id, token, max(now_ms, valid_from_ms))

    async def _find(self, issuer: str, subject: str) -> UserId | None:
        query = select(external_identities.c.user_id).where(_identity(issuer, subject))
        found = await self._database.scalar(query)
        return None if found is None else UserId(found)

    async def _make(self, issuer: str, subject: str, display_name: str) -> UserId:
        user_id, now_ms = UserId(str(uuid.uuid4())), self._clock()
        user = insert(users).values(
            id=user_id,
            handle=f"u_{uuid.uuid4().hex[:_HANDLE_CHARACTERS]}",
            display_name=display_name,
            password_hash=NO_PASSWORD,
            sharing_paused=False,
            switch_sequence=0,
            tokens_valid_from_ms=0,
            created_ms=now_ms,
        )
        identity = insert(external_identities).values(issuer=issuer, subject=subject, user_id=user_id)
        async with self._database.write() as connection:
            await connection.execute(user)
            await connection.execute(identity)
        return user_id


def _identity(issuer: str, subject: str) -> ColumnElement[bool]:
    return and_(external_identities.c.issuer == issuer, external_identities.c.subject == subject)
