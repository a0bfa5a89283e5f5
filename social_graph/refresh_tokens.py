"""Refresh tokens: each good for one use, which gives the next of its family.

A token used a second time means that it was stolen, or that its successor was; nobody can tell which of the two
users is the thief, so the whole family ends (RFC 9700 §4.14.2). Only hashes are stored. A plain SHA-256 is enough:
the tokens are 256 random bits, so there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from nearby.model import UserId
from nearby.ports import Clock
from social_graph.database import Database, among
from social_graph.locks import hold
from social_graph.schema import refresh_tokens, users


@dataclass(frozen=True, slots=True)
class Grant:
    """What a log-in or a refresh earns: the next refresh token, and leave to issue an access token.

    The access token must say that it was issued at ``issued_at_ms``: never before a log-out that came first,
    even if that one was recorded by a server whose clock is ahead.
    """

    user_id: UserId
    refresh_token: str
    issued_at_ms: int

    def __repr__(self) -> str:
        return f"Grant(user_id={self.user_id!r})"


async def start_family(connection: AsyncConnection, user_id: UserId, now_ms: int, lifetime_s: int) -> str:
    """Store the first token of a new family and return it; forget the user's expired ones."""
    expired = refresh_tokens.c.expires_ms <= now_ms
    await connection.execute(delete(refresh_tokens).where(refresh_tokens.c.user_id == user_id, expired))
    return await _store(connection, user_id, str(uuid.uuid4()), now_ms + lifetime_s * 1000)


async def end_families(connection: AsyncConnection, *user_ids: UserId) -> None:
    """Make every refresh token of each of ``user_ids`` useless."""
    await connection.execute(delete(refresh_tokens).where(among(connection, refresh_tokens.c.user_id, user_ids)))


async def _store(connection: AsyncConnection, user_id: UserId, family: str, expires_ms: int) -> str:
    token = secrets.token_urlsafe(32)
    row = insert(refresh_tokens).values(
        token_hash=_hash(token), user_id=user_id, family=family, expires_ms=expires_ms, rotated_ms=None
    )
    await connection.execute(row)
    return token


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class RefreshTokens:
    """Rotation."""

    def __init__(self, database: Database, clock: Clock, lifetime_s: int) -> None:
        self._database = database
        self._clock = clock
        self._lifetime_s = lifetime_s

    async def rotate(self, token: str) -> Grant | None:
        """Use up ``token`` and return its successor, or ``None`` if it is unknown, expired, revoked or used.

        A token used before revokes its family.

        Raises:
            StoreUnavailable: the database failed; the token may or may not have been used up.
        """
        now_ms = self._clock()
        query = (
            select(refresh_tokens, users.c.tokens_valid_from_ms)
            .join(users, users.c.id == refresh_tokens.c.user_id)
            .where(refresh_tokens.c.token_hash == _hash(token))
        )
        owner = select(refresh_tokens.c.user_id).where(refresh_tokens.c.token_hash == _hash(token))
        async with self._database.write() as connection:
            user_id = await connection.scalar(owner)
            if user_id is None:
                return None
            await hold(connection, UserId(user_id))
            row = (await connection.execute(query)).one_or_none()
            if row is None or row.expires_ms <= now_ms:
                return None
            if row.rotated_ms is not None:
                await connection.execute(delete(refresh_tokens).where(refresh_tokens.c.family == row.family))
                return None
            used = update(refresh_tokens).where(refresh_tokens.c.token_hash == row.token_hash)
            await connection.execute(used.values(rotated_ms=now_ms))
            successor = await _store(connection, row.user_id, row.family, now_ms + self._lifetime_s * 1000)
        return Grant(UserId(row.user_id), successor, max(now_ms, row.tokens_valid_from_ms))

    async def delete_expired(self, limit: int = 1_000) -> int:
        """Delete up to ``limit`` tokens that have expired; return how many.

        Raises:
            StoreUnavailable: the database failed.
        """
        expired = refresh_tokens.c.expires_ms <= self._clock()
        due = select(refresh_tokens.c.token_hash).where(expired).limit(limit)
        async with self._database.write() as connection:
            return (
                await connection.execute(delete(refresh_tokens).where(refresh_tokens.c.token_hash.in_(due)))
            ).rowcount
