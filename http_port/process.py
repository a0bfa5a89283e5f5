"""The beginning and the end of every process: errors told in one line, and a stop on SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from nearby.errors import SettingsError, StoreUnavailable


def run(main: Callable[[Mapping[str, str]], Coroutine[Any, Any, None]], environ: Mapping[str, str]) -> int:
    """Run the coroutine ``main(environ)`` on uvloop to its end and return the exit status.

    A wrong setting, a taken port and a store that cannot be opened are told in one line, without a traceback: status 2.
    """
    status = 0
    try:
        uvloop.run(main(environ))
    except* (SettingsError, StoreUnavailable, OSError) as group:
        status = 2
        for error in _leaves(group):
            sys.stderr.write(f"error: {error}\n")
    return status


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


async def comes_before(event: asyncio.Event, other: asyncio.Event) -> bool:
    """Wait for either event; whether ``event`` is among those that are set."""
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(event.wait()), group.create_task(other.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
    return event.is_set()


@asynccontextmanager
async def stop_signals() -> AsyncIterator[asyncio.Event]:
    """Yield an event that SIGINT or SIGTERM sets."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    try:
        yield stop
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(signum)
