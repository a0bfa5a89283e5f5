"""Password hashes: argon2id, computed in threads, a few at a time."""

from __future__ import annotations

import asyncio
import secrets

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError

from nearby.errors import StoreUnavailable

MEMORY_KIB = 19_456
ITERATIONS = 2
PARALLELISM = 1
"""The least that the OWASP Password Storage Cheat Sheet recommends for argon2id: m=19456 (19 MiB), t=2, p=1.
https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#argon2id
"""

CONCURRENCY = 2
"""Hashes computed at once; each takes one core and :data:`MEMORY_KIB`."""

NO_PASSWORD = "-"
"""The hash of a user who has no password; none is right."""

WAIT_S = 10
"""How long a log-in waits for its turn before it is told to come back."""


class Passwords:
    """Hash and verify, never on the event loop."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(
            time_cost=ITERATIONS, memory_cost=MEMORY_KIB, parallelism=PARALLELISM, type=Type.ID
        )
        self._turns = asyncio.Semaphore(CONCURRENCY)
        self._nobodys_hash: str | None = None

    async def prepare(self) -> None:
        """Compute the hash that :meth:`verify_nobody` needs, so that the first use does not take longer."""
        self._nobodys_hash = await self.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """Return a salted hash of ``password`` that names its own parameters.

        Raises:
            StoreUnavailable: too many hashes are waiting to be computed.
        """
        await self._take_turn()
        try:
            return await asyncio.to_thread(self._hasher.hash, password)
        finally:
            self._turns.release()

    async def verify(self, password_hash: str, password: str) -> bool:
        """Whether ``password`` is the one that was hashed.

        Raises:
            StoreUnavailable: too many hashes are waiting to be computed.
        """
        await self._take_turn()
        try:
            return await asyncio.to_thread(self._hasher.verify, password_hash, password)
        except VerifyMismatchError:
            return False
        finally:
            self._turns.release()

    async def verify_nobody(self, password: str) -> None:
        """Cost what :meth:`verify` costs, so that an answer's delay does not tell whether a handle exists.

        Raises:
            StoreUnavailable: too many hashes are waiting to be computed.
        """
        assert self._nobodys_hash is not None, "prepare() comes first"
        await self.verify(self._nobodys_hash, password)

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                await self._turns.acquire()
        except TimeoutError as error:
            raise StoreUnavailable("social_graph", "too many passwords to check") from error
