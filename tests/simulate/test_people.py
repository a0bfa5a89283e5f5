from __future__ import annotations

import asyncio

import pytest

from cli.simulate.people import each


async def test_results_come_in_the_order_of_the_items_and_no_more_than_the_limit_run_at_once() -> None:
    running, most = 0, 0

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - number):
            await asyncio.sleep(0)
        running -= 1
        return number * number

    assert await each(3, range(10), work) == [number * number for number in range(10)]
    assert most == 3


async def test_the_first_error_ends_the_rest_and_comes_as_it_is() -> None:
    begun = []

    async def work(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0)
        if number == 1:
            raise LookupError

    with pytest.raises(LookupError):
        await each(2, range(100), work)
    assert len(begun) < 10
