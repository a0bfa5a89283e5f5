"""``nearby up`` as a whole: every process is real, and none is left behind."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest
import redis.asyncio

from tests.cli.processes import alive, mentioning
from tests.support.eventually import eventually
from tests.support.stack import ANY_PORTS, Stack, running_stack, start_up

PROCESSES = {"shard-1", "shard-2", "spare-1", "cache", "api", "writer-1", "gw-1", "gw-2", "keeper-1"}

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path) as running:
        yield running


async def ready(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            return (await http.get(f"{url}/readyz")).is_success
        except httpx.TransportError:
            return False


def stored_epoch(data_dir: Path) -> int:
    return int(json.loads((data_dir / "discovery" / "ring.json").read_text())["epoch"])


@only_linux
async def test_a_stack_is_ready_when_it_says_so_and_leaves_nothing_on_ctrl_c(stack: Stack) -> None:
    pids = stack.pids
    assert set(pids) == PROCESSES
    assert all(alive(pid) for pid in pids.values())
    for url in (
        stack.api_admin_url,
        stack.history_writer_admin_url,
        stack.ring_keeper_admin_url,
        *(gateway.admin_url for gateway in stack.gateways),
    ):
        assert await ready(url)
    assert stat.S_IMODE((stack.data_dir / "stack.json").stat().st_mode) == 0o600
    assert stack.api_url in stack.output
    assert all(f"  {name} " in stack.output for name in PROCESSES)

    assert await stack.stop(signal.SIGINT) == 0
    assert not any(alive(pid) for pid in pids.values())
    assert mentioning(stack.data_dir) == []
    assert not (stack.data_dir / "stack.json").exists()


@only_linux
async def test_no_process_is_left_when_nearby_up_is_killed_and_it_starts_again_at_once(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        pids = stack.pids
        frozen = stack.kill("gw-2", signal.SIGSTOP)
        assert alive(frozen)
        stack.process.kill()
        await stack.process.wait()
        await eventually(lambda: not any(alive(pid) for pid in pids.values()))
        assert mentioning(stack.data_dir) == []
        assert (stack.data_dir / "stack.json").exists()
    async with running_stack(tmp_path) as again:
        assert again.pids.keys() == pids.keys()
        assert not set(again.pids.values()) & set(pids.values())


async def test_each_process_that_is_killed_comes_back_at_its_address_with_its_pid_in_the_stack_file(
    stack: Stack,
) -> None:
    before = stack.document
    old = {name: stack.kill(name) for name in PROCESSES}
    for name in PROCESSES:
        await stack.restarted(name, old[name])
        await stack.says(f"{name} was killed by SIGKILL; starting it again in 0.5 s")
        await stack.says(f"{name} is started again, pid {stack.pids[name]}")
    for url in (stack.api_admin_url, *(gateway.admin_url for gateway in stack.gateways)):
        await eventually(partial(ready, url), within_s=20)

    def without_pids(document: object) -> object:
        if isinstance(document, dict):
            return {key: without_pids(value) for key, value in document.items() if not key.endswith("pid")}
        return [without_pids(value) for value in document] if isinstance(document, list) else document

    assert without_pids(stack.document) == without_pids(before)


async def test_a_second_stack_on_the_same_data_directory_is_refused_in_one_line(stack: Stack, tmp_path: Path) -> None:
    second = await start_up(stack.data_dir, tmp_path / "second.log", ANY_PORTS, {})
    async with asyncio.timeout(20):
        assert await second.process.wait() == 2
    assert second.output.splitlines() == [
        f"error: another `nearby up` (pid {stack.process.pid}) runs on {stack.data_dir}; "
        "stop it, or choose another --data-dir"
    ]
    assert all(alive(pid) for pid in stack.pids.values())


async def test_a_taken_port_is_told_in_one_line_and_nothing_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        arguments = ["--ephemeral", "--api-port", "0", "--gateway-ports", f"0,{port}"]
        refused = await start_up(tmp_path / "data", tmp_path / "up.log", arguments, {})
        async with asyncio.timeout(20):
            assert await refused.process.wait() == 2
    assert refused.output.splitlines() == [
        f"error: port {port} of --gateway-ports is taken; choose another one, or 0 for any free port"
    ]
    assert list((tmp_path / "data" / "logs").iterdir()) == []


async def test_a_wrong_setting_is_told_in_one_line_and_nothing_starts(tmp_path: Path) -> None:
    refused = await start_up(tmp_path / "data", tmp_path / "up.log", ANY_PORTS, {"NEARBY_MESSAGE_RATE": "many"})
    async with asyncio.timeout(20):
        assert await refused.process.wait() == 2
    assert refused.output.splitlines() == ["error: NEARBY_MESSAGE_RATE is 'many'; allowed: 0 to 10000"]
    assert list((tmp_path / "data" / "logs").iterdir()) == []


@only_linux
async def test_a_process_that_cannot_start_ends_everything_and_the_end_of_its_log_is_shown(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "users.sqlite").write_text("this is no database " * 100)
    failed = await start_up(tmp_path / "data", tmp_path / "up.log", ANY_PORTS, {})
    async with asyncio.timeout(60):
        assert await failed.process.wait() == 1
    assert "error: migration ended with status 1" in failed.output
    assert f"The end of {tmp_path}/data/logs/migration.log:" in failed.output
    assert "social_graph is unavailable" in failed.output
    assert mentioning(tmp_path / "data") == []


@only_linux
async def test_ctrl_c_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    stack = await start_up(tmp_path / "data", tmp_path / "up.log", ANY_PORTS, {})
    await stack.says("shard-1", within_s=30)
    assert await stack.stop(signal.SIGINT) == 0
    assert "error" not in stack.output
    assert mentioning(stack.data_dir) == []


@only_linux
async def test_a_crowd_walks_in_the_terminal_and_ctrl_c_ends_it_first(tmp_path: Path) -> None:
    async with running_stack(tmp_path, arguments=(*ANY_PORTS, "--simulate")) as stack:
        await eventually(lambda: any("cli simulate" in line for line in mentioning(stack.data_dir)))
        assert await stack.stop(signal.SIGINT) == 0
        assert "Stopping" in stack.output
        assert mentioning(stack.data_dir) == []


@only_linux
async def test_a_second_ctrl_c_kills_what_does_not_stop(stack: Stack) -> None:
    stack.kill("gw-1", signal.SIGSTOP)
    began_s = asyncio.get_running_loop().time()
    stack.process.send_signal(signal.SIGINT)
    await eventually(lambda: not (stack.data_dir / "stack.json").exists())
    assert await stack.stop(signal.SIGINT) == 0
    assert asyncio.get_running_loop().time() - began_s < 5
    assert mentioning(stack.data_dir) == []


PERSISTENT = ("--api-port", "0", "--gateway-ports", "0")
PERSON = {"handle": "ann", "password": "correct horse", "display_name": "Ann"}


async def test_users_secrets_and_the_cache_outlive_a_restart_and_so_does_an_unchanged_ring(tmp_path: Path) -> None:
    async with running_stack(tmp_path, arguments=PERSISTENT) as first, httpx.AsyncClient(trust_env=False) as http:
        assert (await http.post(f"{first.api_url}/v1/users", json=PERSON)).status_code == 201
        admin_token = first.admin_token
        await write(first.cache_url, "kept", "yes")
        assert stored_epoch(first.data_dir) == 1
    async with running_stack(tmp_path, arguments=PERSISTENT) as second, httpx.AsyncClient(trust_env=False) as http:
        login = {"handle": PERSON["handle"], "password": PERSON["password"]}
        assert (await http.post(f"{second.api_url}/v1/tokens", json=login)).status_code == 200
        assert second.admin_token == admin_token
        assert await read(second.cache_url, "kept") == "yes"
        assert stored_epoch(second.data_dir) == 1
    async with running_stack(tmp_path, arguments=(*PERSISTENT, "--shards", "3")) as third:
        assert len(third.shard_urls) == 3
        assert stored_epoch(third.data_dir) == 2


async def test_an_ephemeral_stack_writes_no_append_only_file(stack: Stack) -> None:
    await write(stack.cache_url, "key", "value")
    assert list((stack.data_dir / "cache").iterdir()) == []


async def write(url: str, key: str, value: str) -> None:
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.set(key, value)


async def read(url: str, key: str) -> object:
    async with redis.asyncio.Redis.from_url(url, decode_responses=True) as client:
        return await client.get(key)
