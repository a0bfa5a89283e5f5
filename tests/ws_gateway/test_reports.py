"""Reports on their way to the cache and to friends, while the cache goes away and comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from location_cache.redis import open_cache
from location_history.stream import open_stream
from nearby.model import Location, UserId
from nearby.record import LocationRecord, unpack
from nearby.sharing import EXACT
from tests.conftest import ValkeyServers
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer
from ws_gateway.reports import Outcome, PendingReport, ReportPipeline
from ws_gateway.viewer import Viewer

ALICE, BOB = (UserId(f"00000000-0000-4000-8000-00000000000{number}") for number in (1, 2))
AHEAD_US = 300 * 1_000_000


class Screen:
    """A client that takes no notice."""

    writable = True

    def send_frame(self, frame: bytes) -> None:
        pass


class Published:
    """Everything that was published, in order."""

    def __init__(self) -> None:
        self.records: list[LocationRecord] = []

    def publish(self, channel: bytes, payload: bytes) -> None:
        self.records.append(unpack(payload))

    def subscribe(self, channels: Sequence[bytes]) -> None:
        raise NotImplementedError

    async def confirmed(self, channels: Sequence[bytes]) -> None:
        raise NotImplementedError

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        raise NotImplementedError

    def reachable(self, channel: bytes) -> bool:
        raise NotImplementedError


class Reporter:
    """One user, who reports and waits for what became of it."""

    def __init__(self, pipeline: ReportPipeline) -> None:
        self._viewer = Viewer(ALICE, 1_000, Screen())
        self._viewer.audience.let(BOB, EXACT, new=True)
        self._pipeline = pipeline

    async def report(self, *recorded_at_ms: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for each in recorded_at_ms:
            location = Location(1.0, 2.0, each)
            self._pipeline.submit(PendingReport(self._viewer, location, False, True, outcomes.append))
        await eventually(lambda: len(outcomes) == len(recorded_at_ms), within_s=10)
        return outcomes

    async def report_until_stored(self, recorded_at_ms: int) -> None:
        async with asyncio.timeout(20):
            while not (await self.report(recorded_at_ms))[0].stored:
                recorded_at_ms += 1


@asynccontextmanager
async def running(cache: ValkeyServer, stream: ValkeyServer, published: Published) -> AsyncIterator[Reporter]:
    async with open_cache(cache.url, 600) as opened, open_stream(stream.url, 10_000) as history:
        pipeline = ReportPipeline(opened, history, published, lambda: time.time_ns() // 1_000_000, 27_000)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(pipeline.run())
            yield Reporter(pipeline)
            task.cancel()


async def test_F8_versions_given_while_the_cache_is_away_by_a_clock_ahead_are_exceeded_once_it_is_back(
    valkey: ValkeyServer, valkey_servers: ValkeyServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, published = valkey_servers(), Published()
    async with running(cache, valkey, published) as reporter:
        assert await reporter.report(1) == [Outcome(shown=True, stored=True)]
        cache.kill()
        true_ns = time.time_ns
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda: true_ns() + AHEAD_US * 1_000)
            assert await reporter.report(2, 3) == [Outcome(shown=True, stored=False)] * 2
        cache.start()
        await reporter.report_until_stored(4)
        await reporter.report(1_000)
    versions = [record.version for record in published.records]
    assert len(versions) >= 5
    assert versions == sorted(set(versions)), "each above the one before"
    assert versions[-1] - true_ns() // 1_000 > AHEAD_US / 2, (
        "by the cache's own clock it would not be: nothing was tested"
    )
