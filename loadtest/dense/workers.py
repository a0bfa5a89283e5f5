"""The processes of a fleet: started together, ended together, added up."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from loadtest.dense.rows import RowSet
from loadtest.dense.wire import Orders, Progress, total

_LINE_BYTES = 16 << 20
_ENDS_WITHIN_S = 30.0


class WorkerFailed(Exception):
    """A process of the fleet did not do what it was ordered to; it has said why on the standard error."""


class Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.last = Progress()
        self._process = process
        self._orders = process.stdin
        self._said = process.stdout

    async def order(self, line: bytes) -> None:
        """Send a line."""
        self._orders.write(line + b"\n")
        await self._orders.drain()

    async def hear(self) -> bool:
        """Wait for what it says next; return whether there was anything before its end.

        Raises:
            WorkerFailed: it has ended with an error.
        """
        line = await self._said.readline()
        if line:
            self.last = msgspec.json.decode(line, type=Progress)
        elif status := await self._process.wait():
            raise WorkerFailed(f"a process of the fleet ended with status {status}")
        return bool(line)

    def stop(self) -> None:
        """Have it end its run now, tell a last time, and end."""
        self._orders.close()

    async def end(self) -> None:
        """Wait for its end, which it is forced to after a while."""
        self.stop()
        try:
            async with asyncio.timeout(_ENDS_WITHIN_S):
                await self._said.read()
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Workers:
    """All of them."""

    def __init__(self, workers: list[Worker]) -> None:
        self._workers = workers

    @property
    def progress(self) -> Progress:
        """What all have done, as they last said."""
        return total([worker.last for worker in self._workers])

    @property
    def rows(self) -> RowSet:
        """What all have measured, as they last said."""
        rows = RowSet()
        for worker in self._workers:
            rows.add(worker.last.rows)
        return rows

    async def run(self, on_progress: Callable[[], None]) -> None:
        """Begin once all are ready, and wait for their ends.

        Raises:
            WorkerFailed: one of them has ended with an error; the others are ended, too.
        """
        ready = await asyncio.gather(*(worker.hear() for worker in self._workers))
        if not all(ready):
            return  # stopped before they began
        await asyncio.gather(*(worker.order(b"") for worker in self._workers))
        try:
            async with asyncio.TaskGroup() as tasks:
                for worker in self._workers:
                    tasks.create_task(_listen(worker, on_progress))
        except* WorkerFailed as failures:
            raise failures.exceptions[0] from None

    def stop(self) -> None:
        """End the run now; what was measured until then counts."""
        for worker in self._workers:
            worker.stop()


@asynccontextmanager
async def started(options: Namespace, api_url: str, people: Path) -> AsyncIterator[Workers]:
    """Start the processes and give them their orders; they end with the context."""
    workers: list[Worker] = []
    try:
        for part in range(options.processes):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "loadtest.dense.worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES,
            )
            workers.append(Worker(process))
            orders = Orders(vars(options), api_url, str(people), part, options.processes)
            await workers[-1].order(msgspec.json.encode(orders))
        yield Workers(workers)
    finally:
        await asyncio.gather(*(worker.end() for worker in workers))


async def _listen(worker: Worker, on_progress: Callable[[], None]) -> None:
    while await worker.hear():
        on_progress()
