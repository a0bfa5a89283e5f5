"""``nearby ring`` over a real ``nearby up``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import main
from cli.up.plan import Layout
from discovery.connect import open_discovery
from nearby.errors import StoreUnavailable
from tests.support.eventually import eventually
from tests.support.stack import ANY_PORTS, Stack, running_stack
from tests.support.zookeeper import ZooKeeperServer

TIMEOUT_S = 40.0
SOON = {"NEARBY_RING_GRACE_S": "0.5", "NEARBY_PROBE_INTERVAL_S": "2"}


@asynccontextmanager
async def ring(stack: Stack, *arguments: str) -> AsyncIterator[Process]:
    """Run ``nearby ring ARGUMENTS`` beside the test."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "ring", *arguments, "--data-dir", str(stack.data_dir)),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(stack: Stack, *arguments: str, status: int = 0) -> str:
    """Run ``nearby ring ARGUMENTS`` to its end; return what it printed, on standard error if it failed."""
    async with ring(stack, *arguments) as process, asyncio.timeout(TIMEOUT_S):
        out, err = await process.communicate()
    assert process.returncode == status, (out + err).decode()
    return (err if status else out).decode()


async def shown(stack: Stack) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(await said(stack, "show", "--json"))
    return document


async def all_use_the_ring(stack: Stack) -> bool:
    document = await shown(stack)
    return len(document["members"]) == 3 and document["next"] == "nothing to do"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path, SOON) as running:
        await eventually(lambda: all_use_the_ring(running), within_s=15)
        yield running


async def test_the_ring_is_shown_planned_grown_shrunk_and_its_history_told(stack: Stack) -> None:
    spare = stack.spare_urls["spare-1"]
    table = await said(stack, "show")
    for word in ("Ring 1: 2 pub/sub shards", *stack.shard_urls.values(), f"Spare {spare}", "Leader: keeper-1", "gw-2"):
        assert word in table

    plan = json.loads(await said(stack, "plan", "--add", spare, "--json"))
    assert 0.8 / 3 <= plan["moved_share"] <= 1.2 / 3
    assert {move["target"] for move in plan["moves"]} == {"shard-3"}
    assert "Ring 2 would have 3 shards" in await said(stack, "plan", "--add", spare)
    assert (await shown(stack))["epoch"] == 1

    assert "Ring 1 has 2 shards." in await said(stack, "init", "--add", spare)
    grown = await said(stack, "resize", "--spares", "1", "--reason", "more [users]")
    assert "partitions move" in grown
    assert "Ring 2 has 3 shards." in grown
    ring_2 = await shown(stack)
    assert [shard["slot"] for shard in ring_2["shards"]] == ["shard-1", "shard-2", "shard-3"]
    assert (ring_2["resize"], ring_2["spares"]) == (None, [])
    assert {member["switched_epoch"] for member in ring_2["members"]} == {2}

    shrunk = json.loads(await said(stack, "resize", "--remove", "shard-3", "--reason", "fewer", "--json"))
    assert [shard["slot"] for shard in shrunk["shards"]] == ["shard-1", "shard-2"]
    assert "Spare" in await said(stack, "spares", "--add", spare)
    history = json.loads(await said(stack, "history", "--json"))["actions"]
    actions = [action["action"] for action in history]
    assert actions == ["resize", "commit", "finish", "resize", "commit", "finish", "spares"]
    assert "more [users]" in await said(stack, "history")


async def test_a_refused_command_prints_why_in_one_line(stack: Stack) -> None:
    first = stack.shard_urls["shard-1"]
    for arguments, line in (
        (["plan", "--add", first], f"error: {first} is in the ring already"),
        (["plan", "--remove", "shard-9"], "error: no shard of the ring is shard-9; slots: shard-1, shard-2"),
        (["resize", "--add", "unix:///nobody", "--reason", "x"], "error: unix:///nobody does not answer: "),
        (["replace", "shard-9", stack.spare_urls["spare-1"], "--reason", "x"], "error: there is no slot shard-9; "),
        (["resize", "--spares", "2", "--reason", "x"], "error: 1 spares answer, not 2"),
        (["abort"], "error: no resize is running"),
        (["spares", "--remove", first], f"error: {first} is no spare"),
    ):
        told = await said(stack, *arguments, status=1)
        assert told.startswith(line)
        assert told.count("\n") == 1
    assert (await shown(stack))["epoch"] == 1


async def test_ctrl_c_stops_watching_and_not_the_resize_and_abort_stops_the_resize(stack: Stack) -> None:
    frozen = stack.kill("gw-2", signal.SIGSTOP)
    try:
        arguments = ("resize", "--add", stack.spare_urls["spare-1"], "--reason", "a test")
        async with ring(stack, *arguments) as first, asyncio.timeout(TIMEOUT_S):
            assert first.stdout is not None
            while b"2 of 3 members prepared" not in (line := await first.stdout.readline()):
                assert line
            assert b"missing: gw-2" in line
            first.send_signal(signal.SIGINT)
            _, err = await first.communicate()
            assert (first.returncode, err) == (130, b"The resize goes on; see `nearby ring show`.\n")
        assert (await shown(stack))["resize"]["missing"] == ["gw-2"]
        assert "2 of 3 members prepared" in await said(stack, "show")
        assert "given up" in await said(stack, "abort", "--reason", "gw-2 hangs")
        assert (await shown(stack))["resize"] is None
    finally:
        os.kill(frozen, signal.SIGCONT)


async def test_who_watches_a_resize_that_is_aborted_is_told(stack: Stack) -> None:
    frozen = stack.kill("gw-2", signal.SIGSTOP)
    try:
        arguments = ("resize", "--add", stack.spare_urls["spare-1"], "--reason", "a test")
        async with ring(stack, *arguments) as watching, asyncio.timeout(TIMEOUT_S):
            assert watching.stdout is not None
            while b"members prepared" not in (line := await watching.stdout.readline()):
                assert line
            await said(stack, "abort", "--reason", "wrong server")
            _, err = await watching.communicate()
        assert watching.returncode == 1
        assert err.decode().startswith("error: the resize was aborted by ")
        assert err.decode().endswith(": wrong server\n")
    finally:
        os.kill(frozen, signal.SIGCONT)


async def test_a_shard_is_replaced_by_hand_without_moving_anything(stack: Stack) -> None:
    spare = stack.spare_urls["spare-1"]
    before = {shard["slot"]: shard["partitions"] for shard in (await shown(stack))["shards"]}
    assert f"shard-2 is {spare} now" in await said(stack, "replace", "shard-2", spare, "--reason", "new machine")
    after = await shown(stack)
    assert {shard["slot"]: shard["partitions"] for shard in after["shards"]} == before
    assert after["shards"][1]["address"] == spare


async def test_a_shard_that_stays_dead_is_replaced_by_the_spare(tmp_path: Path) -> None:
    arguments = (*ANY_PORTS, "--no-restart-shards")
    async with running_stack(tmp_path, SOON, arguments) as stack:
        await eventually(lambda: all_use_the_ring(stack), within_s=15)
        stack.kill("shard-2")
        await stack.says("shard-2 was killed by SIGKILL; it is left dead")

        async def replaced() -> bool:
            document = await shown(stack)
            return (document["epoch"], document["shards"][1]["address"]) == (2, stack.spare_urls["spare-1"])

        await eventually(replaced, within_s=20)
        assert "replace" in await said(stack, "history")


async def test_a_shard_that_is_back_at_once_keeps_its_place(stack: Stack) -> None:
    pid = stack.kill("shard-2")
    await stack.restarted("shard-2", pid)

    async def all_reach_it() -> bool:
        document = await shown(stack)
        assert document["epoch"] == 1
        return not any(shard["unreachable_by"] for shard in document["shards"])

    await eventually(all_reach_it)


async def test_a_server_that_is_back_after_it_was_replaced_is_a_spare(stack: Stack) -> None:
    spare, second = stack.spare_urls["spare-1"], stack.shard_urls["shard-2"]
    await said(stack, "replace", "shard-2", spare, "--reason", "a test")
    stack.kill("shard-2")
    await stack.says("shard-2 is a spare now: its place in the ring was taken meanwhile", within_s=15)

    async def answers() -> bool:
        return bool((await shown(stack))["spares"] == [{"address": second, "answers": True}])

    await eventually(answers)


async def test_a_stack_in_zookeeper_resizes_too_and_only_its_credentials_write_the_ring(
    tmp_path: Path, shared_zookeeper: ZooKeeperServer
) -> None:
    arguments = (*ANY_PORTS, "--zookeeper", shared_zookeeper.address)
    async with running_stack(tmp_path, SOON, arguments) as stack:
        await eventually(lambda: all_use_the_ring(stack), within_s=15)
        assert not (stack.data_dir / "discovery").exists()
        assert "Ring 2 has 3 shards." in await said(
            stack, "resize", "--add", stack.spare_urls["spare-1"], "--reason", "a test"
        )
        layout = Layout(stack.data_dir, stack.data_dir / "run", shared_zookeeper.address)
        async with open_discovery(layout.discovery_url) as stranger:
            ring_2 = await stranger.read_ring()
            assert ring_2 is not None
            assert ring_2.epoch == 2
            with pytest.raises(StoreUnavailable):
                await stranger.write_ring(replace(ring_2, spares=()), expected=ring_2)


async def test_without_a_stack_or_a_token_the_way_on_is_told(tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["ring", "show", *arguments], env={"NEARBY_ADMIN_TOKEN": None})
        return result.exit_code, result.output

    status, output = run("--data-dir", str(tmp_path))
    assert (status, output) == (
        1,
        f"error: no stack runs in {tmp_path}; begin one with `nearby up`, or name a keeper with --keeper URL\n",
    )
    assert run("--keeper", "http://127.0.0.1:1") == (
        1,
        "error: --keeper needs the admin token in NEARBY_ADMIN_TOKEN\n",
    )
