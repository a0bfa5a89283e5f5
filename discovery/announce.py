"""Keeps a member's entry in discovery true."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from nearby.ports import Member, Registration

ANNOUNCE_S = 1.0


class Announcement:
    """Writes what ``member`` returns whenever it has changed.

    :meth:`run` looks once a second, and at once when ``progressed`` is set: a resize of the ring waits for its members.
    """

    def __init__(self, registration: Registration, member: Callable[[], Member], progressed: asyncio.Event) -> None:
        self._registration = registration
        self._member = member
        self._progressed = progressed
        self._announced: Member | None = None
        self._turn = asyncio.Lock()

    async def update(self) -> None:
        """Write the entry as it is now, and return once it is written.

        One at a time, so that an older state never replaces a newer one.
        """
        async with self._turn:
            present = self._member()
            if present != self._announced:
                await self._registration.update(present)
                self._announced = present

    async def run(self) -> None:
        """Keep the entry true until cancelled."""
        while True:
            await self.update()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANNOUNCE_S):
                    await self._progressed.wait()
            self._progressed.clear()
