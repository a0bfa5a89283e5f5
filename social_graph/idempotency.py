"""Results of writes by their Idempotency-Key, so that a write sent again has its first effect and answer.

What is stored can be read only with the key, which is stored as a hash: the answer is encrypted under the key itself,
because some answers hold what is nowhere else in the clear (the token of an invite).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import ColumnElement, and_, delete, insert, select, tuple_, update

from nearby.model import UserId
from nearby.ports import Clock
from social_graph.database import Database
from social_graph.locks import hold
from social_graph.schema import idempotency_keys

LEASE_S = 60
"""A request that has not ended by then died with its process; the next one with its key begins anew."""

_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Begun:
    """The key is new: carry the request out."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Another request with this key is being carried out."""


@dataclass(frozen=True, slots=True)
class Different:
    """The key was used for another request."""


@dataclass(frozen=True, slots=True)
class Done:
    """The request has been carried out; this was the answer."""

    status: int
    answer: bytes


Claim = Begun | UnderWay | Different | Done


class IdempotencyKeys:
    """Claiming keys and keeping answers for ``lifetime_s`` seconds."""

    def __init__(self, database: Database, clock: Clock, lifetime_s: int) -> None:
        self._database = database
        self._clock = clock
        self._lifetime_s = lifetime_s

    async def claim(self, user_id: UserId, key: str, fingerprint: str) -> Claim:
        """Say what to do with a request of ``user_id`` that carries ``key`` and is told apart by ``fingerprint``.

        Of several at once exactly one is told to begin.

        Raises:
            StoreUnavailable: the database failed.
        """
        now_ms = self._clock()
        mine = _mine(user_id, key)
        async with self._database.write() as connection:
            await hold(connection, user_id)
            row = (await connection.execute(select(idempotency_keys).where(mine))).one_or_none()
            if row is not None and not self._is_over(row.status, row.created_ms, now_ms):
                if row.fingerprint != fingerprint:
                    return Different()
                return UnderWay() if row.status is None else Done(row.status, _decrypted(key, row.answer))
            await connection.execute(delete(idempotency_keys).where(mine))
            begun = insert(idempotency_keys).values(
                user_id=user_id, key_hash=_hash(key), fingerprint=fingerprint, status=None, created_ms=now_ms
            )
            await connection.execute(begun)
        return Begun()

    def _is_over(self, status: int | None, created_ms: int, now_ms: int) -> bool:
        return now_ms - created_ms >= (LEASE_S if status is None else self._lifetime_s) * 1000

    async def finish(self, user_id: UserId, key: str, status: int, answer: bytes) -> None:
        """Keep the answer of the request that was told to begin. Without such a request, do nothing.

        Raises:
            StoreUnavailable: the database failed; the key is then under way until its lease ends.
        """
        values = {"status": status, "answer": _encrypted(key, answer)}
        async with self._database.write() as connection:
            await connection.execute(update(idempotency_keys).where(_mine(user_id, key)).values(values))

    async def release(self, user_id: UserId, key: str) -> None:
        """Forget a request that had no effect, so that it may be sent again.

        Raises:
            StoreUnavailable: the database failed; the key is then under way until its lease ends.
        """
        async with self._database.write() as connection:
            await connection.execute(delete(idempotency_keys).where(_mine(user_id, key)))

    async def delete_expired(self, limit: int = 1_000) -> int:
        """Delete up to ``limit`` keys whose time is over; return how many.

        Raises:
            StoreUnavailable: the database failed.
        """
        over = idempotency_keys.c.created_ms <= self._clock() - self._lifetime_s * 1000
        key: ColumnElement[Any] = tuple_(idempotency_keys.c.user_id, idempotency_keys.c.key_hash)
        due = select(idempotency_keys.c.user_id, idempotency_keys.c.key_hash).where(over).limit(limit)
        async with self._database.write() as connection:
            return (await connection.execute(delete(idempotency_keys).where(key.in_(due)))).rowcount


def _mine(user_id: UserId, key: str) -> ColumnElement[bool]:
    return and_(idempotency_keys.c.user_id == user_id, idempotency_keys.c.key_hash == _hash(key))


def _hash(key: str) -> str:
    return hashlib.sha256(b"lookup:" + key.encode()).hexdigest()


def _cipher(key: str) -> AESGCM:
    return AESGCM(hashlib.sha256(b"answer:" + key.encode()).digest())


def _encrypted(key: str, answer: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + _cipher(key).encrypt(nonce, answer, None)


def _decrypted(key: str, stored: bytes) -> bytes:
    return _cipher(key).decrypt(stored[:_NONCE_BYTES], stored[_NONCE_BYTES:], None)
