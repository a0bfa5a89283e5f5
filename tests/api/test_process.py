"""The API as a process of its own, from its environment to its orderly end."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from discovery.connect import open_discovery
from nearby.ports import MemberState, RingState
from tests.api.api_process import START_TIMEOUT_S, environment, member_of_the_api, running_api
from tests.api.stack import PASSWORD, SERVICE_TOKEN
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer


@asynccontextmanager
async def _running(environ: Mapping[str, str]) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "api", env=environ, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_process_serves_three_ports_and_ends_in_order(
    tmp_path: Path, database_url: str, valkey: ValkeyServer
) -> None:
    environ = environment(tmp_path, database_url, valkey)
    async with open_discovery(environ["NEARBY_DISCOVERY"]) as discovery, _running(environ) as process:
        await discovery.write_ring(RingState(1, {"shard-1": valkey.url}), expected=None)
        member = await member_of_the_api(discovery)
        assert member.state is MemberState.SERVING
        assert member.pid == process.pid
        assert member.member_id == f"api-{httpx.URL(member.url).port}"
        async with httpx.AsyncClient() as client:
            body = {"handle": "ann", "password": PASSWORD, "display_name": "Ann"}
            assert (await client.post(f"{member.url}/v1/users", json=body)).status_code == 201
            assert (await client.get(f"{member.admin_url}/readyz")).status_code == 200
            assert "nearby_api_requests_total" in (await client.get(f"{member.admin_url}/metrics")).text
            headers = {"Authorization": f"Bearer {SERVICE_TOKEN.value}"}
            internal = f"{member.details['internal_url']}/internal/v1/changes"
            assert (await client.get(internal, headers=headers)).json() == {"changes": [], "latest": 0, "pruned_to": 0}
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(START_TIMEOUT_S):
            _, stderr = await process.communicate()
        assert (process.returncode, b"Traceback" in stderr) == (0, False), stderr.decode()


async def test_it_has_the_name_and_address_it_was_given_and_is_ready_though_cache_and_history_are_dead(
    tmp_path: Path, sqlite_url: str, valkey: ValkeyServer
) -> None:
    environ = environment(tmp_path, sqlite_url, valkey) | {
        "NEARBY_CACHE_URL": "redis://127.0.0.1:1",
        "NEARBY_HISTORY_STREAM_URL": "redis://127.0.0.1:1",
        "NEARBY_HISTORY_URL": "cassandra://127.0.0.1:1/nearby",
        "NEARBY_ADVERTISED_HOST": "localhost",
        "NEARBY_API_ID": "api-pod-7",
    }
    async with open_discovery(environ["NEARBY_DISCOVERY"]) as discovery, _running(environ):
        await discovery.write_ring(RingState(1, {"shard-1": "redis://127.0.0.1:1"}), expected=None)
        member = await member_of_the_api(discovery)
        assert member.member_id == "api-pod-7"
        urls = (member.url, member.admin_url, member.details["internal_url"])
        assert {httpx.URL(url).host for url in urls} == {"localhost"}
        async with httpx.AsyncClient(trust_env=False) as client:

            async def ready() -> bool:
                return (await client.get(f"{member.admin_url}/readyz")).is_success

            await eventually(ready)


async def test_the_address_that_a_client_claims_is_not_believed_even_on_this_machine(
    tmp_path: Path, sqlite_url: str, valkey: ValkeyServer
) -> None:
    settings = {"NEARBY_ANONYMOUS_PER_MINUTE": "1"}
    async with running_api(tmp_path, sqlite_url, valkey, settings) as api, httpx.AsyncClient() as client:
        answers = [await client.get(api.url, headers={"X-Forwarded-For": f"192.0.2.{n}"}) for n in (1, 2)]
    assert [answer.status_code for answer in answers] == [200, 429]


async def test_a_missing_setting_is_told_in_one_line(tmp_path: Path, sqlite_url: str, valkey: ValkeyServer) -> None:
    environ = environment(tmp_path, sqlite_url, valkey)
    del environ["NEARBY_TOKEN_KEYS"]
    async with _running(environ) as process, asyncio.timeout(START_TIMEOUT_S):
        _, stderr = await process.communicate()
    assert process.returncode == 2
    assert stderr.decode().splitlines() == ["error: NEARBY_TOKEN_KEYS is not set; allowed: kid=BASE64[,kid=BASE64]"]


async def test_it_stops_while_it_waits_for_a_ring(tmp_path: Path, sqlite_url: str, valkey: ValkeyServer) -> None:
    environ = {
        **environment(tmp_path, sqlite_url, valkey),
        "NEARBY_ADMIN_PORT": "0",
        "NEARBY_LOG_LEVEL": "debug",
    }
    async with _running(environ) as process, asyncio.timeout(START_TIMEOUT_S):
        assert process.stderr is not None
        await process.stderr.readuntil(b"waiting for a pub/sub ring")
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0
