"""The harness itself: a guard that cannot fire guards nothing."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path

import pytest
from blockbuster import BlockingError

import nearby
from tests.conftest import EventLoopGuard, ValkeyServers
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer


def _our_blocking_function() -> Callable[[], None]:
    source = "import time\ndef block(): time.sleep(0)"
    scope: dict[str, Callable[[], None]] = {}
    exec(compile(source, str(Path(nearby.__path__[0]) / "blocking.py"), "exec"), scope)
    return scope["block"]


async def test_our_code_that_blocks_the_event_loop_is_caught(event_loop_guard: EventLoopGuard) -> None:
    with pytest.raises(BlockingError, match=r"time\.sleep"):
        _our_blocking_function()()
    assert event_loop_guard.take() == ["Blocking call to time.sleep"]


async def test_our_code_may_block_in_a_thread() -> None:
    await asyncio.to_thread(_our_blocking_function())


async def test_other_code_may_block() -> None:
    time.sleep(0)  # noqa: ASYNC251  # that is the point


async def test_eventually_tells_the_last_value() -> None:
    with pytest.raises(AssertionError, match=r"not within 0.05 s; last value: \[\]"):
        await eventually(list, within_s=0.05)


async def test_eventually_takes_a_failed_assertion_for_not_yet() -> None:
    seen: list[int] = []

    def check() -> list[int]:
        seen.append(1)
        assert len(seen) == 3
        return seen

    assert await eventually(check) == [1, 1, 1]


def test_a_server_comes_back_empty_on_the_same_address(valkey_servers: ValkeyServers) -> None:
    server = valkey_servers()
    server.command("SET", "key", "value")
    url = server.url
    server.kill()
    assert not server.running()
    server.start()
    assert (server.url, server.command("GET", "key")) == (url, b"$-1\r\n")


def test_a_frozen_server_answers_again_once_thawed(valkey_servers: ValkeyServers) -> None:
    server = valkey_servers()
    server.freeze()
    assert server.running()
    server.thaw()
    assert server.command("PING") == b"+PONG\r\n"


def test_the_shared_server_is_empty_at_the_start_of_a_test(valkey: ValkeyServer) -> None:
    assert valkey.command("DBSIZE") == b":0\r\n"


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
async def test_a_server_does_not_outlive_the_killed_process_that_started_it() -> None:
    code = (
        "from tests.support.valkey import ValkeyServer\n"
        "server = ValkeyServer(); server.start(); print(server.pid, server.url, flush=True); input()"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=PIPE, stdout=PIPE)
    assert parent.stdout is not None
    pid, url = (await parent.stdout.readline()).decode().split()
    assert _alive(int(pid))
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    await eventually(lambda: not _alive(int(pid)))
    shutil.rmtree(Path(url.removeprefix("unix://")).parent)


def _alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False
