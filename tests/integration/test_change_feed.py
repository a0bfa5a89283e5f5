"""The change feed as gateways read it: pruned behind their backs, or with changes of kinds that they do not know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from api.internal import create_internal_app
from api.metrics import RequestMetrics
from http_port.serve import serve
from nearby.changes import Change, Unreadable
from nearby.errors import FeedBroken
from nearby.settings import Secret
from social_graph.graph import SocialGraph, open_social_graph
from social_graph.upgrade import upgrade
from tests.social_graph import raw
from tests.social_graph.clock import HeldClock
from tests.social_graph.people import person
from tests.support.eventually import eventually
from ws_gateway import feed
from ws_gateway.friends import ApiFriendDirectory, open_directory

SERVICE_TOKEN = Secret("service-token-of-tests")


@asynccontextmanager
async def _directory(graph: SocialGraph) -> AsyncIterator[ApiFriendDirectory]:
    app = create_internal_app(graph, SERVICE_TOKEN, RequestMetrics(CollectorRegistry()))
    async with serve(app, "127.0.0.1", 0) as url, open_directory(url, SERVICE_TOKEN) as directory:
        yield directory


@pytest.fixture
async def graph(tmp_path: Path) -> AsyncIterator[SocialGraph]:
    url = f"sqlite:///{tmp_path / 'users.db'}"
    await asyncio.to_thread(upgrade, url)
    async with open_social_graph(url, HeldClock(), 60) as opened:
        yield opened


async def test_a_reader_behind_the_pruned_point_or_ahead_of_the_feed_is_told(graph: SocialGraph) -> None:
    ann = await person(graph, "ann")
    for _ in range(2):
        await graph.sharing.pause(ann, None)
        await graph.sharing.resume(ann)
    await graph.changes.prune(HeldClock()() + 1, limit=2)
    async with _directory(graph) as directory:
        for position in (0, 1, 5):
            with pytest.raises(FeedBroken):
                await directory.changes_after(position)
        assert [change.sequence for change in await directory.changes_after(2)] == [3, 4]
        assert await directory.changes_after(4) == []


async def test_a_gateway_goes_on_behind_a_change_of_a_kind_that_only_newer_processes_know(
    graph: SocialGraph, tmp_path: Path
) -> None:
    ann = await person(graph, "ann")
    paused = await graph.sharing.pause(ann, None)
    await raw.execute(
        f"sqlite:///{tmp_path / 'users.db'}",
        """INSERT INTO changes (sequence, payload, created_ms) VALUES (2, '{"kind": "novel", "sequence": 0}', 0)""",
        "UPDATE feed_head SET sequence = 2",
    )
    resumed = await graph.sharing.resume(ann)
    async with _directory(graph) as directory:
        assert await directory.changes_after(0) == [*paused, Unreadable(2), *resumed]


async def test_a_gateway_that_missed_changes_starts_over_and_goes_on(
    graph: SocialGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "POLL_S", 0.01)
    ann = await person(graph, "ann")
    applied: list[int] = []
    started_over: list[int] = []
    async with _directory(graph) as directory:

        class Interrupted:
            """The directory, out of reach while ``cut`` is set."""

            reachable = asyncio.Event()

            async def friend_list(self, user_id: object) -> None:
                raise AssertionError("nobody asks")

            async def note_sightings(self, pairs: object) -> None:
                raise AssertionError("nobody sees anybody")

            async def latest_sequence(self) -> int:
                return await directory.latest_sequence()

            async def changes_after(self, sequence: int) -> list[Change]:
                await self.reachable.wait()
                return await directory.changes_after(sequence)

        gateway = Interrupted()
        gateway.reachable.set()
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(
                feed.ChangeFeed(gateway).follow(
                    lambda change: applied.append(change.sequence),
                    lambda: started_over.append(len(applied)),
                )
            )
            await graph.sharing.pause(ann, None)
            await eventually(lambda: applied == [1], within_s=30)
            gateway.reachable.clear()
            await graph.sharing.resume(ann)
            await graph.changes.prune(HeldClock()() + 1)
            gateway.reachable.set()
            await eventually(lambda: started_over == [1], within_s=30)
            await graph.sharing.pause(ann, None)
            await eventually(lambda: applied == [1, 3], within_s=30)
            following.cancel()
