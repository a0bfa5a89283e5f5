"""RFC 6455 by the cases of the Autobahn suite, on everything of the gateway below its session."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import kosoku

OUR_LIMITS = ["1.1.6", "1.1.7", "1.1.8", "10.1.1"]
"""Messages of more than 16 KiB."""
NOT_OURS = ["1.2.*", "9.*", "12.*", "13.*", *OUR_LIMITS]
"""And binary messages, megabytes, and compression, which the protocol does not have."""
KNOWN = {"7.1.2": 1002}
"""Two close frames in one read: picows parses the second before it hands over the first, and so answers 1002, not 1000.

On a busy machine they may come one by one, and the case passes."""


@asynccontextmanager
async def echo() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.support.echo_gateway", stdout=PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            yield f"ws://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.kill()
        await process.wait()


async def failures(cases: list[str] | None = None, *, without: list[str] | None = None) -> dict[str, int | None]:
    """Run ``cases``, all if not given; return the close code of the echo in each case that failed."""
    async with echo() as url:
        try:
            results = await kosoku.run_fuzzingclient(url, cases=cases, exclude_cases=without)
        except kosoku.FailureError as error:
            return {result.case_id: result.remote_close_code for result in error.results if not result.passed}
        assert results
        return {}


async def test_every_case_of_the_published_suite_passes() -> None:
    assert await failures(without=NOT_OURS) in ({}, KNOWN)


async def test_a_message_beyond_the_limit_closes_with_1009() -> None:
    assert await failures(OUR_LIMITS) == dict.fromkeys(OUR_LIMITS, 1009)


async def test_a_binary_message_closes_with_1003() -> None:
    assert await failures(["1.2.1", "1.2.2", "1.2.5"]) == {"1.2.1": 1003, "1.2.2": 1003, "1.2.5": 1003}
