"""Wait for a condition under a deadline, in place of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

_POLL_S = 0.01


@overload
async def eventually(check: Callable[[], Awaitable[T]], within_s: float = 5.0) -> T: ...


@overload
async def eventually(check: Callable[[], T], within_s: float = 5.0) -> T: ...


async def eventually(check: Callable[[], object], within_s: float = 5.0) -> object:
    """Call ``check``, plain or async, until what it returns is true, and return that.

    An ``AssertionError`` of ``check`` counts as "not yet".

    Raises:
        AssertionError: ``within_s`` seconds passed; tells the last value or the last failed assertion.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    value: object = "(no call came back)"
    try:
        async with asyncio.timeout_at(deadline):
            while True:
                try:
                    answer = check()
                    value = await answer if inspect.isawaitable(answer) else answer
                except AssertionError as error:
                    value = error
                else:
                    if value:
                        return value
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise AssertionError(f"not within {within_s} s; last value: {value!r}") from error
