"""Reads of the location cache that arriving clients share: thousands may arrive at once, connections are sixteen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from nearby.model import UserId
from nearby.ports import CachedLocation, LocationCache

GATHER_S = 0.003
"""How long a read waits for others to join it."""
MAX_USERS = 4_096
"""Beyond this many users a read is joined by nobody else."""

Found = Mapping[UserId, CachedLocation | None]


class SharedReads:
    """Reads ``cache``, once for all who ask within :data:`GATHER_S`.

    The first of them asks on behalf of all. If that one is cancelled, so are the others: it happens when the process
    ends.
    """

    def __init__(self, cache: LocationCache) -> None:
        self._cache = cache
        self._next: _Read | None = None

    async def read(self, user_ids: Iterable[UserId]) -> Found:
        """Return what the cache knows of ``user_ids``, among others.

        Raises:
            StoreUnavailable: the cache did not answer.
        """
        read = self._next
        if read is not None:
            read.users.update(dict.fromkeys(user_ids))
            if len(read.users) >= MAX_USERS:
                self._next = None
            return await asyncio.shield(read.found)
        read = self._next = _Read(user_ids)
        try:
            await asyncio.sleep(GATHER_S)
            if self._next is read:
                self._next = None
            users = list(read.users)
            found = dict(zip(users, await self._cache.read_many(users), strict=True))
        except BaseException as error:
            if self._next is read:
                self._next = None
            if isinstance(error, Exception):
                read.found.set_exception(error)
                read.found.exception()  # perhaps nobody else asked
            else:
                read.found.cancel()
            raise
        read.found.set_result(found)
        return found


class _Read:
    """A read that others may join until it is sent."""

    def __init__(self, user_ids: Iterable[UserId]) -> None:
        self.users = dict.fromkeys(user_ids)
        self.found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
