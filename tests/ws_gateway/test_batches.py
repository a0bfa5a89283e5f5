"""Batches wait for the stream's disk together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from nearby.errors import StoreUnavailable
from nearby.model import HistoryPoint, Location, UserId
from nearby.ports import HistoryFence
from tests.support.eventually import eventually
from ws_gateway.batches import MAX_POINTS_PER_CALL, MAX_WAITING, BatchQueue

ANNA = UserId("00000000-0000-4000-8000-00000000000a")


def batch(count: int = 100) -> list[HistoryPoint]:
    return [HistoryPoint(ANNA, Location(1.0, 2.0, instant)) for instant in range(count)]


class SlowDisk:
    """A stream whose disk answers when it is let to. ``calls`` holds how many points each call had."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.answers = asyncio.Semaphore(0)
        self.broken = False

    async def append_many(self, points: Sequence[HistoryPoint], *, durable: bool = False) -> None:
        assert durable
        self.calls.append(len(points))
        await self.answers.acquire()
        if self.broken:
            raise StoreUnavailable("history_stream", "broken")

    async def fence(self, user_id: UserId, from_ms: int, to_ms: int, lasting_s: float = 0) -> HistoryFence:
        raise NotImplementedError

    async def passed(self, fence: HistoryFence) -> bool:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


@asynccontextmanager
async def running(disk: SlowDisk) -> AsyncIterator[BatchQueue]:
    queue = BatchQueue(disk)
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(queue.run())
        yield queue
        work.cancel()


async def test_batches_that_come_in_while_the_disk_is_busy_share_the_next_call() -> None:
    disk = SlowDisk()
    async with running(disk) as queue, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(queue.store(batch()))
        await eventually(lambda: disk.calls == [100])
        others = [tasks.create_task(queue.store(batch())) for _ in range(20)]
        await asyncio.sleep(0)
        disk.answers.release()
        assert await first
        await eventually(lambda: disk.calls == [100, 2_000])
        assert not any(other.done() for other in others)
        disk.answers.release()
        assert all(await asyncio.gather(*others))


async def test_a_call_carries_a_bounded_number_of_points() -> None:
    disk = SlowDisk()
    async with running(disk) as queue, asyncio.TaskGroup() as tasks:
        for _ in range(MAX_POINTS_PER_CALL // 100 + 1):
            tasks.create_task(queue.store(batch()))
        disk.answers.release()
        disk.answers.release()
        await eventually(lambda: len(disk.calls) == 2)
    assert disk.calls == [MAX_POINTS_PER_CALL, 100]


async def test_a_batch_that_is_not_on_disk_is_not_stored() -> None:
    disk = SlowDisk()
    disk.broken = True
    disk.answers.release()
    async with running(disk) as queue:
        assert not await queue.store(batch())
        assert queue.failures_count == 1
        disk.broken = False
        disk.answers.release()
        assert await queue.store(batch())


async def test_too_many_waiting_batches_are_refused() -> None:
    disk = SlowDisk()
    queue = BatchQueue(disk)
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(queue.store(batch(1))) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        assert not await queue.store(batch(1))
        assert queue.refused_count == 1
        for task in waiting:
            task.cancel()


async def test_a_batch_without_a_point_that_can_be_stored_waits_for_nothing() -> None:
    assert await BatchQueue(SlowDisk()).store([])
