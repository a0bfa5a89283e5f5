"""The dense fleet as it is started from a shell, against a whole stack."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtest.seed import write_people
from loadtest.verdict import ACK, CONNECT, EXIT_MISSED, NEVER, RECONNECT, SCREEN
from tests.support.eventually import eventually
from tests.support.gauges import metrics
from tests.support.seeding import seed
from tests.support.stack import Stack, running_stack

# By themselves: they load the machine.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.serial]

PHONES = 40
FEW_ERRORS = ("--slo-error-percent", "25")
"""On a busy machine some reports are answered with an error, which is not what these tests are about."""
SMALL = ("--users", str(PHONES), "--spawn-rate", "40", "--friends", "6", "--interval", "1", *FEW_ERRORS)
ENDS_WITHIN_S = 90


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``rows`` are those of the JSON file by name."""

    status: int
    output: str
    rows: Mapping[str, Any]


class Run:
    """A running fleet."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        self.process = process
        self._directory = directory

    async def outcome(self) -> Outcome:
        """Wait for the end."""
        async with asyncio.timeout(ENDS_WITHIN_S):
            status = await self.process.wait()
        output = (self._directory / "output.txt").read_text()
        assert (self._directory / "stats.json").exists(), output
        rows = json.loads((self._directory / "stats.json").read_text())
        return Outcome(status, output, {row["name"]: row for row in rows})


@asynccontextmanager
async def dense(directory: Path, *arguments: str) -> AsyncIterator[Run]:
    with (directory / "output.txt").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtest.dense", "--json-file", str(directory / "stats"), *SMALL, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Run(process, directory)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def people_of(stack: Stack, directory: Path) -> tuple[str, ...]:
    file = directory / "people.jsonl"
    write_people(file, seed(stack.data_dir, PHONES, 6))
    return "--host", stack.api_url, "--people", str(file)


@pytest.fixture
def target(stack: Stack, tmp_path: Path) -> tuple[str, ...]:
    """The options that name the stack and people who have nearby friends there."""
    return people_of(stack, tmp_path)


async def connections(stack: Stack) -> list[float]:
    """Of each gateway."""
    return [(await metrics(gateway))["connections"] for gateway in stack.gateways]


async def everybody_is_connected(stack: Stack) -> bool:
    return sum(await connections(stack)) == PHONES


async def everybody_has_reported(stack: Stack, since: float = 0.0) -> bool:
    return await reports(stack) >= since + 3 * PHONES


async def reports(stack: Stack) -> float:
    return sum([(await metrics(gateway))["reports_total"] for gateway in stack.gateways])


@pytest.mark.parametrize("scenario", ["steady", "ramp", "city"])
async def test_a_small_run_meets_the_goals(tmp_path: Path, target: tuple[str, ...], scenario: str) -> None:
    async with dense(tmp_path, *target, "--scenario", scenario, "--run-time", "6s") as run:
        outcome = await run.outcome()
    assert outcome.status == 0, outcome.output
    assert "MISSED" not in outcome.output
    assert outcome.rows[CONNECT]["num_requests"] >= PHONES
    assert outcome.rows[ACK]["num_requests"] > PHONES
    assert outcome.rows[SCREEN]["num_requests"] > PHONES
    assert outcome.rows[SCREEN]["max_response_time"] > 0


async def test_a_storm_drops_every_connection_of_every_process(tmp_path: Path, target: tuple[str, ...]) -> None:
    storm = ("--scenario", "storm", "--run-time", "8s", "--processes", "2", "--codec", "msgpack")
    async with dense(tmp_path, *target, *storm) as run:
        outcome = await run.outcome()
    assert outcome.status == 0, outcome.output
    assert outcome.rows[CONNECT]["num_requests"] == PHONES, "those of both processes"
    assert outcome.rows[RECONNECT]["num_requests"] == PHONES
    assert outcome.rows[SCREEN]["num_requests"] > PHONES


async def test_a_celebrity_is_everybodys_friend(tmp_path: Path, target: tuple[str, ...]) -> None:
    async with dense(tmp_path, *target, "--scenario", "celebrity", "--run-time", "6s") as run:
        outcome = await run.outcome()
    assert outcome.status == 0, outcome.output
    assert outcome.rows["/v1/invitations/accept"]["num_requests"] == PHONES - 1
    assert outcome.rows["/v1/invitations/accept"]["errors"] == {}


async def test_gateways_that_stand_still_miss_the_goals(stack: Stack, tmp_path: Path, target: tuple[str, ...]) -> None:
    before = await reports(stack)
    async with dense(tmp_path, *target, "--run-time", "10s") as run:
        await eventually(lambda: everybody_has_reported(stack, before), within_s=30)
        for gateway in stack.gateways:
            stack.kill(gateway.id, signal.SIGSTOP)
        try:
            outcome = await run.outcome()
        finally:
            for gateway in stack.gateways:
                stack.kill(gateway.id, signal.SIGCONT)
    assert outcome.status == EXIT_MISSED, outcome.output
    assert outcome.rows[SCREEN]["errors"][NEVER] > PHONES
    assert "MISSED on a friend's screen within 2000 ms" in outcome.output


async def test_a_goal_that_cannot_be_met_ends_with_a_status_of_its_own(tmp_path: Path, target: tuple[str, ...]) -> None:
    async with dense(tmp_path, *target, "--run-time", "4s", "--slo-screen-ms", "0") as run:
        outcome = await run.outcome()
    assert outcome.status == EXIT_MISSED, outcome.output
    assert outcome.rows[SCREEN]["num_failures"] == outcome.rows[SCREEN]["num_requests"] > PHONES


async def test_ctrl_c_ends_it_early_with_a_verdict(stack: Stack, tmp_path: Path, target: tuple[str, ...]) -> None:
    async with dense(tmp_path, *target, "--run-time", "1h", "--processes", "2") as run:
        await eventually(lambda: everybody_is_connected(stack), within_s=30)
        run.process.send_signal(signal.SIGINT)
        outcome = await run.outcome()
    assert outcome.status in {0, EXIT_MISSED}, outcome.output
    assert outcome.rows[CONNECT]["num_requests"] == PHONES
    assert "Verdict" in outcome.output
    await eventually(lambda: nobody_is_connected(stack), within_s=10)


async def nobody_is_connected(stack: Stack) -> bool:
    return sum(await connections(stack)) == 0


async def test_who_is_sent_away_by_a_drain_comes_back_elsewhere_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "stack").mkdir()
    async with running_stack(tmp_path / "stack") as stack:
        target = people_of(stack, tmp_path)
        async with dense(tmp_path, *target, "--run-time", "20s") as run:
            await eventually(lambda: everybody_is_connected(stack), within_s=30)
            victim = stack.gateways[0]
            sent_away = (await metrics(victim))["connections"]
            draining = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cli", "drain", "--data-dir", str(stack.data_dir), victim.id),
                *("--rate", "20"),
                stdout=asyncio.subprocess.DEVNULL,
            )
            assert await draining.wait() == 0
            assert run.process.returncode is None, "the drain is over before the run is"
            outcome = await run.outcome()
    assert outcome.status == 0, outcome.output
    assert outcome.rows[RECONNECT]["num_requests"] >= sent_away > 0
    assert NEVER not in outcome.rows[SCREEN]["errors"]


async def test_a_process_that_dies_ends_the_others_and_the_test(
    stack: Stack, tmp_path: Path, target: tuple[str, ...]
) -> None:
    async with dense(tmp_path, *target, "--run-time", "1h", "--processes", "2") as run:
        await eventually(lambda: everybody_is_connected(stack), within_s=30)
        children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
        assert len(children) == 2
        killing = await asyncio.create_subprocess_exec("kill", "-KILL", children[0])
        assert await killing.wait() == 0
        async with asyncio.timeout(ENDS_WITHIN_S):
            assert await run.process.wait() == 1
    assert "a process of the fleet ended with status -9" in (tmp_path / "output.txt").read_text()


async def test_too_few_people_are_told_before_anything_is_started(stack: Stack, tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("{}\n")
    async with dense(tmp_path, "--host", stack.api_url, "--people", str(few)) as run:
        assert await run.process.wait() == 2
    assert f"a file of {PHONES} people" in (tmp_path / "output.txt").read_text()
