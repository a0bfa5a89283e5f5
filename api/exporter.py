"""Prepares exports: everything that is held on a user, in one archive.

``account.json`` holds every row about the user, ``last_location.json`` what the cache knows, and ``history.json``,
``history.gpx`` and ``history.geojson`` the same points each. The range is fixed when the export is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import IO

import msgspec

from api.archive import Archive
from api.history_formats import EXPORTED, FileFormat
from api.history_ranges import Range, measure, oldest_first
from nearby.errors import StoreUnavailable
from nearby.model import HistoryPoint
from nearby.ports import HistoryStore, LocationCache, Sleep
from social_graph.exports import Export
from social_graph.graph import SocialGraph

INTERVAL_S = 1.0
ATTEMPT_S = 3_600.0
RETRY_S = 5.0
TELL_S = 2.0

_log = logging.getLogger(__name__)


class Superseded(Exception):
    """The attempt does not count any more: the export is gone, or somebody else prepares it."""


@dataclass(slots=True)
class _Progress:
    part: int = 0
    done_count: int = 0
    total_count: int = 0
    told_s: float = 0.0


class Exporter:
    """Prepares the exports in ``graph``; owns none of the stores."""

    def __init__(self, graph: SocialGraph, cache: LocationCache, history: HistoryStore) -> None:
        self._graph = graph
        self._cache = cache
        self._history = history

    async def run(self, sleep: Sleep) -> None:
        """Prepare one export after another, until cancelled. Several processes may do so."""
        while True:
            if not await self.work():
                await sleep(INTERVAL_S)

    async def work(self) -> bool:
        """Make an attempt at one export, if one is waiting; whether there was one."""
        try:
            export = await self._graph.exports.claim()
        except StoreUnavailable as error:
            _log.warning("exports wait: %s", error)
            return False
        if export is None:
            return False
        try:
            async with asyncio.timeout(ATTEMPT_S):
                await self._prepare(export)
        except Superseded:
            _log.info("export %s is not wanted any more", export.export_id)
        except (StoreUnavailable, TimeoutError) as error:
            _log.warning("export %s waits: %s", export.export_id, error or "time-out")
            # If this fails, too, it is taken again at the end of the lease.
            with contextlib.suppress(StoreUnavailable):
                await self._graph.exports.release(export, RETRY_S)
        return True

    async def _prepare(self, export: Export) -> None:
        wanted = await measure(self._history, export.user_id, 0, export.created_ms + 1)
        progress = _Progress(total_count=wanted.count * len(EXPORTED))
        archive = Archive()
        await self._small_file(archive, "account.json", await self._graph.exports.holdings(export.user_id))
        [cached] = await self._cache.read_many([export.user_id])
        last = None if cached is None else cached.record._asdict()
        await self._small_file(archive, "last_location.json", last)
        for file_format in EXPORTED:
            await self._history_file(export, archive, file_format, wanted, progress)
        await asyncio.to_thread(archive.close)
        await self._store(export, progress, archive.take(least_bytes=0))
        await self._graph.exports.finish(export)

    async def _small_file(self, archive: Archive, name: str, content: object) -> None:
        data = msgspec.json.format(msgspec.json.encode(content), indent=2)
        with archive.file(name) as file:
            await asyncio.to_thread(file.write, data)

    async def _history_file(
        self, export: Export, archive: Archive, file_format: FileFormat, wanted: Range, progress: _Progress
    ) -> None:
        with archive.file(f"history.{file_format.suffix}") as file:
            file.write(file_format.head)
            first = True
            async for points in oldest_first(self._history, wanted):
                # Compressing takes about 10 ms a page, in which the event loop has better things to do.
                await asyncio.to_thread(_write, file, file_format, points, first)
                first = first and not points
                progress.done_count += len(points)
                await self._store(export, progress, archive.take())
            file.write(file_format.tail)

    async def _store(self, export: Export, progress: _Progress, data: bytes) -> None:
        """Store what is finished of the archive, and now and then tell that this goes on."""
        now_s = asyncio.get_running_loop().time()
        if not data and now_s < progress.told_s + TELL_S:
            return
        progress.told_s = now_s
        done_count = min(progress.done_count, progress.total_count)
        exports = self._graph.exports
        if not await exports.add_part(export, progress.part, data, done_count, progress.total_count):
            raise Superseded
        progress.part += bool(data)


def _write(file: IO[bytes], file_format: FileFormat, points: list[HistoryPoint], first: bool) -> None:
    file.write(file_format.piece(points, first=first))
