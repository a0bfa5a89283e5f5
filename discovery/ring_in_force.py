"""The ring that a process goes by: the last good one, whatever becomes of the one that is stored.

Invariant: the epoch in force never goes back, not even over a restart where a file for the ring is configured.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from discovery.codec import decode_ring, encode_ring
from discovery.locked_files import replace
from nearby.errors import RingConflict, RingError
from nearby.ports import RingState

_log = logging.getLogger(__name__)


class RingInForce:
    """Takes good rings and refuses the others, which it counts and logs once for each bad content in turn."""

    def __init__(self, file: Path | None) -> None:
        """Go by nothing yet; ``file`` keeps the ring over a restart, ``None``: nothing does."""
        self.ring: RingState | None = None
        self.refused_count = 0
        self._file = file
        self._considered: tuple[bytes | None] | None = None
        self._saving = asyncio.Lock()

    async def load(self) -> None:
        """Begin with the ring that was kept on disk, if there is one."""
        if self._file is None:
            return
        try:
            self.ring = decode_ring(await asyncio.to_thread(self._file.read_bytes))
        except FileNotFoundError:
            return
        except (OSError, RingError) as error:
            _log.warning("the ring kept in %s cannot be used: %s", self._file, error)

    async def consider(self, data: bytes | None) -> None:
        """Put the stored ring in force if it is good, on disk too; ``None`` means that none is stored."""
        if self._considered == (data,):
            return
        self._considered = (data,)
        try:
            ring = self.check(data)
        except RingError as error:
            self.refused_count += 1
            _log.error("refused a ring: %s", error)
            return
        if ring is not None and ring != self.ring:
            self.ring = ring
            await self._save()

    def check(self, data: bytes | None) -> RingState | None:
        """Return the stored ring; ``None`` if none is stored and there has never been one.

        Raises:
            RingError: it must not be used.
        """
        if data is None:
            if self.ring is not None:
                raise RingError(f"the ring is gone; it was at epoch {self.ring.epoch}")
            return None
        ring = decode_ring(data)
        if self.ring is not None and ring.epoch < self.ring.epoch:
            raise RingError(f"epoch {ring.epoch} is older than {self.ring.epoch}")
        return ring

    def check_replacement(self, stored: bytes | None, ring: RingState, expected: RingState | None) -> None:
        """Permit that ``ring`` takes the place of what is stored.

        What is stored but refused is used by nobody: then the ring in force is the present one, and whoever
        expects that may repair what is stored.

        Raises:
            RingError: ``ring`` is older than the present ring.
            RingConflict: the present ring is not ``expected``.
        """
        try:
            present = self.check(stored)
        except RingError:
            present = self.ring
        if present is not None and ring.epoch < present.epoch:
            raise RingError(f"epoch {ring.epoch} is older than {present.epoch}")
        if present != expected:
            raise RingConflict(f"the present ring is {_named(present)}, not {_named(expected)}")

    async def _save(self) -> None:
        if self._file is None:
            return
        async with self._saving:
            if self.ring is None:
                return
            try:
                await asyncio.to_thread(_write, self._file, encode_ring(self.ring))
            except OSError as error:
                _log.error("the ring could not be kept in %s: %s", self._file, error)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(replace(path, data, durable=True))


def _named(ring: RingState | None) -> str:
    if ring is None:
        return "none"
    parts = [name for name, nodes in (("pending", ring.pending), ("previous", ring.previous)) if nodes is not None]
    return " with ".join([f"epoch {ring.epoch}", *parts])
