"""Processes are started again when they die, and stopped when they should."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cli.up import supervisor as supervisor_module
from cli.up.backoff import Backoff
from cli.up.errors import ProcessFailed, tail
from cli.up.supervisor import Command, Supervisor, describe_exit
from tests.cli.processes import alive
from tests.support.eventually import eventually

FOREVER = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def python(tmp_path: Path, name: str, code: str) -> Command:
    return Command(name, [sys.executable, "-c", code], dict(os.environ), tmp_path / f"{name}.log")


class Stage:
    """A supervisor, and what it said."""

    def __init__(self, supervisor: Supervisor, said: list[str]) -> None:
        self.supervisor = supervisor
        self.said = said
        self.hurry = asyncio.Event()

    async def start(self, command: Command) -> int:
        """Start a process and return its pid once it has written its first line."""
        child = await self.supervisor.start(command)
        await self.written(command, "up")
        return child.pid

    async def written(self, command: Command, text: str) -> None:
        log = command.log
        assert log is not None
        await eventually(lambda: text in log.read_text())

    async def stop_all(self) -> None:
        await self.supervisor.stop(list(self.supervisor.children), self.hurry)


@asynccontextmanager
async def stage(first_s: float = 0.01) -> AsyncIterator[Stage]:
    said: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        supervisor = Supervisor(tasks, said.append, backoff=lambda: Backoff(first_s=first_s))
        running = Stage(supervisor, said)
        try:
            yield running
        finally:
            running.hurry.set()
            await running.stop_all()


async def test_a_child_that_is_killed_is_started_again_and_both_are_said(tmp_path: Path) -> None:
    async with stage() as running:
        first = await running.start(python(tmp_path, "child", FOREVER))
        running.supervisor.restart_from_now_on()
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: running.supervisor.children["child"].pid != first)
        second = running.supervisor.children["child"].pid
        assert alive(second)
        await eventually(lambda: len(running.said) == 2)
        assert running.said == [
            "child was killed by SIGKILL; starting it again in 0.01 s",
            f"child is started again, pid {second}",
        ]


async def test_a_child_that_keeps_dying_is_started_again_after_ever_longer_waits(tmp_path: Path) -> None:
    async with stage() as running:
        running.supervisor.restart_from_now_on()
        await running.supervisor.start(python(tmp_path, "child", "import sys; sys.exit(3)"))
        await eventually(lambda: len(running.said) > 6)
    waits = re.findall(r"status 3; starting it again in (\S+) s", "\n".join(running.said))
    assert waits[:3] == ["0.01", "0.02", "0.04"]


async def test_a_death_before_everything_is_ready_ends_the_start_with_the_end_of_the_log(tmp_path: Path) -> None:
    code = "import sys; print('first line'); sys.exit('the port is taken')"
    with pytest.RaisesGroup(pytest.RaisesExc(ProcessFailed, match="child ended with status 1")) as failed:
        async with stage() as running:
            await running.supervisor.start(python(tmp_path, "child", code))
            await asyncio.wait_for(asyncio.Event().wait(), 10)
    assert running.said == []
    (failure,) = failed.value.exceptions
    assert isinstance(failure, ProcessFailed)
    assert failure.log is not None
    assert await asyncio.to_thread(tail, failure.log) == ["first line", "the port is taken"]


async def test_a_child_that_is_not_to_be_restarted_is_left_dead(tmp_path: Path) -> None:
    async with stage() as running:
        pid = await running.start(replace(python(tmp_path, "child", FOREVER), restart=False))
        running.supervisor.restart_from_now_on()
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: running.said == ["child was killed by SIGKILL; it is left dead"])
        await running.stop_all()
        assert running.supervisor.children["child"].pid == pid


async def test_status_2_of_a_child_becomes_that_of_nearby_up(tmp_path: Path) -> None:
    async with stage() as running:
        with pytest.raises(ProcessFailed) as failed:
            await running.supervisor.run(python(tmp_path, "child", "import sys; sys.exit(2)"))
        assert failed.value.exit_status == 2
        with pytest.raises(ProcessFailed) as failed:
            await running.supervisor.run(python(tmp_path, "child", "import sys; sys.exit(7)"))
        assert failed.value.exit_status == 1


async def test_stopping_asks_with_sigterm_first(tmp_path: Path) -> None:
    command = python(
        tmp_path,
        "child",
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('goodbye', flush=True)));"
        "print('up', flush=True); time.sleep(60)",
    )
    async with stage() as running:
        pid = await running.start(command)
        await running.stop_all()
        assert not alive(pid)
        await running.written(command, "goodbye")


async def test_a_child_deaf_to_sigterm_is_killed_after_the_time_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "STOP_TIMEOUT_S", 0.2)
    async with stage() as running:
        pid = await running.start(python(tmp_path, "child", STUBBORN))
        await running.stop_all()
        assert not alive(pid)


async def test_in_a_hurry_a_child_deaf_to_sigterm_is_killed_at_once(tmp_path: Path) -> None:
    async with stage() as running:
        pid = await running.start(python(tmp_path, "child", STUBBORN))
        running.hurry.set()
        async with asyncio.timeout(supervisor_module.STOP_TIMEOUT_S / 2):
            await running.stop_all()
        assert not alive(pid)


async def test_a_frozen_child_is_stopped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "STOP_TIMEOUT_S", 0.2)
    async with stage() as running:
        pid = await running.start(python(tmp_path, "child", FOREVER))
        os.kill(pid, signal.SIGSTOP)
        await running.stop_all()
        assert not alive(pid)


async def test_a_child_that_waits_to_be_started_again_is_not_once_it_was_stopped(tmp_path: Path) -> None:
    async with stage(first_s=60) as running:
        running.supervisor.restart_from_now_on()
        pid = await running.start(python(tmp_path, "child", FOREVER))
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: len(running.said) == 1)
        await running.stop_all()
        assert running.supervisor.children["child"].pid == pid


async def test_an_attached_process_that_ends_is_told_and_not_started_again(tmp_path: Path) -> None:
    async with stage() as running:
        running.supervisor.restart_from_now_on()
        await running.supervisor.start_once(python(tmp_path, "crowd", "import sys; sys.exit(1)"))
        await eventually(lambda: len(running.said) == 1)
    assert running.said == ["crowd ended with status 1"]


async def test_a_child_is_in_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(tmp_path: Path) -> None:
    async with stage() as running:
        pid = await running.start(python(tmp_path, "child", FOREVER))
        assert os.getsid(pid) == pid != os.getsid(0)


ORPHANS = """
import asyncio, os, pathlib, sys
from cli.up.supervisor import Command, Supervisor
async def main():
    async with asyncio.TaskGroup() as tasks:
        supervisor = Supervisor(tasks, print)
        command = Command("child", ["sleep", "60"], dict(os.environ), pathlib.Path(sys.argv[1]))
        print((await supervisor.start(command)).pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
async def test_a_child_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ORPHANS, str(tmp_path / "log")), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        pid = int(await asyncio.wait_for(parent.stdout.readline(), 10))
        assert alive(pid)
    finally:
        parent.kill()
        await parent.wait()
    await eventually(lambda: not alive(pid))


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "ended with status 0"), (-15, "was killed by SIGTERM"), (-99, "was killed by signal 99")],
)
def test_an_exit_status_is_put_in_words(status: int, words: str) -> None:
    assert describe_exit(status) == words


async def test_a_child_that_may_retire_is_not_started_again_after_an_exit_with_status_0(tmp_path: Path) -> None:
    command = replace(
        python(tmp_path, "child", "import sys; print('up', flush=True); sys.stdin.read()"), may_retire=True
    )
    async with stage() as running:
        running.supervisor.restart_from_now_on()
        await running.start(command)
        child = running.supervisor.children["child"]
        await eventually(lambda: child.retired)
        assert running.said == ["child is drained and has ended; it stays away until the next `nearby up`"]


async def test_a_child_that_may_retire_and_crashes_is_started_again(tmp_path: Path) -> None:
    async with stage() as running:
        first = await running.start(replace(python(tmp_path, "child", FOREVER), may_retire=True))
        running.supervisor.restart_from_now_on()
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: running.supervisor.children["child"].pid != first)
        assert not running.supervisor.children["child"].retired
