"""Schemathesis against the running API: no 5xx, no undocumented status, no ignored authentication.

``NEARBY_TEST_FUZZ_EXAMPLES`` makes it larger (default 2 per operation, always the same ones; otherwise new ones).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nearby_client import NearbyApi
from tests.api.api_process import NO_RATE_LIMITS, RunningApi, running_api
from tests.api.stack import PASSWORD
from tests.support.valkey import ValkeyServer

EXAMPLES = int(os.environ.get("NEARBY_TEST_FUZZ_EXAMPLES", "2"))
TIMEOUT_S = 300 + 60 * EXAMPLES
SEED = [] if "NEARBY_TEST_FUZZ_EXAMPLES" in os.environ else ["--seed", "20261121"]
# Everything but this: integers written as 1.0, instants in the past and states that do not fit are refused on purpose.
CHECKS = ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
# They end the very token that the rest is asked with.
ENDING_TOKENS = ("log_out", "change_me", "delete_me")


@asynccontextmanager
async def _api_with_people(tmp_path: Path, url: str, valkey: ValkeyServer) -> AsyncIterator[tuple[RunningApi, str]]:
    """Run the API; ann, whose access token comes with it, has a friend and requests both ways."""
    async with running_api(tmp_path, url, valkey, NO_RATE_LIMITS) as api, NearbyApi(api.url) as client:
        accounts = {}
        for handle in ("ann", "ben", "cat", "dan"):
            await client.sign_up(handle, PASSWORD, handle)
            accounts[handle] = await client.log_in(handle, PASSWORD)
        for sender, handle in (("ann", "ben"), ("ben", "ann"), ("cat", "ann"), ("ann", "dan")):
            await accounts[sender].friend_request(handle=handle)
        yield api, accounts["ann"].access_token


async def _run(api: RunningApi, token: str, directory: Path, *arguments: str) -> None:
    program = Path(sys.executable).parent / "schemathesis"
    process = await asyncio.create_subprocess_exec(
        *(str(program), "run", f"{api.url}/openapi.json", "--header", f"Authorization: Bearer {token}"),
        *("--no-color", "--warnings", "off", "--max-examples", str(EXAMPLES), *SEED, *CHECKS, *arguments),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()[-20_000:]
    assert b"No issues found" in output


async def test_what_is_answered_is_what_the_document_says(
    tmp_path: Path, postgresql_url: str, valkey: ValkeyServer
) -> None:
    excluded = [word for name in ENDING_TOKENS for word in ("--exclude-operation-id", name)]
    async with _api_with_people(tmp_path, postgresql_url, valkey) as (api, token):
        await _run(api, token, tmp_path, "--phases", "examples,coverage,fuzzing,stateful", *excluded)
        assert "Traceback" not in api.log.read_text()


async def test_what_ends_tokens_is_answered_so_too(tmp_path: Path, sqlite_url: str, valkey: ValkeyServer) -> None:
    async with _api_with_people(tmp_path, sqlite_url, valkey) as (api, token):
        included = [word for name in ENDING_TOKENS for word in ("--include-operation-id", name)]
        await _run(api, token, tmp_path, "--phases", "examples,coverage", *included)
        assert "Traceback" not in api.log.read_text()
