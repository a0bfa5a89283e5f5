"""The load test as it is started from a shell, against a whole stack. Its own process: gevent changes the sockets."""

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

from loadtest.__main__ import LOCUSTFILE
from loadtest.seed import write_people
from loadtest.verdict import ACK, CONNECT, EXIT_MISSED, RECONNECT, SCREEN
from tests.support.eventually import eventually
from tests.support.gauges import metrics
from tests.support.seeding import seed
from tests.support.stack import Gateway, Stack

# By themselves: they load the machine, and the processes of a load test meet at a port that Locust chooses.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.serial]

PHONES = 19
"""Of twenty people; one makes and ends friendships by REST."""
PEOPLE = ("--users", "20", "--spawn-rate", "20", "--friends", "6", "--interval", "1", "--slo-error-percent", "25")
"""On a busy machine some reports are answered with an error, which is not what these tests are about."""
ENDS_WITHIN_S = 90


@pytest.fixture
def seeded(stack: Stack, tmp_path: Path) -> tuple[str, str]:
    """The option by which nobody needs to sign up. Each of two processes gets as many people as there are phones."""
    people = tmp_path / "people.jsonl"
    write_people(people, seed(stack.data_dir, 2 * PHONES, 6))
    return "--people", str(people)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a load test ended. ``rows`` are Locust's statistics by name."""

    status: int
    output: str
    rows: Mapping[str, Any]


class LoadTest:
    """A running load test."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        self._process = process
        self._directory = directory

    async def outcome(self) -> Outcome:
        """Wait for the end."""
        async with asyncio.timeout(ENDS_WITHIN_S):
            status = await self._process.wait()
        output = (self._directory / "output.txt").read_text()
        assert (self._directory / "stats.json").exists(), output
        rows = json.loads((self._directory / "stats.json").read_text())
        return Outcome(status, output, {row["name"]: row for row in rows})


@asynccontextmanager
async def load_test(stack: Stack, directory: Path, *arguments: str) -> AsyncIterator[LoadTest]:
    with (directory / "output.txt").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"),
            *("--host", stack.api_url, "--json-file", str(directory / "stats"), *PEOPLE, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield LoadTest(process, directory)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def connections(gateway: Gateway) -> float:
    return (await metrics(gateway))["connections"]


async def reports(stack: Stack) -> float:
    return sum([(await metrics(gateway))["reports_total"] for gateway in stack.gateways])


async def everybody_is_connected(stack: Stack) -> bool:
    return sum([await connections(gateway) for gateway in stack.gateways]) == PHONES


async def test_a_small_run_meets_the_goals(stack: Stack, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    async with load_test(stack, tmp_path, "--run-time", "8s", "--html", str(report)) as running:
        outcome = await running.outcome()
    assert outcome.status == 0, outcome.output
    assert outcome.rows[SCREEN]["num_requests"] > PHONES
    assert outcome.rows[SCREEN]["max_response_time"] > 0
    assert outcome.rows[ACK]["num_requests"] > PHONES
    assert PHONES / 2 < outcome.rows[CONNECT]["num_requests"] <= PHONES
    assert "MISSED" not in outcome.output
    assert SCREEN in report.read_text()


async def test_a_goal_that_cannot_be_met_ends_all_processes_with_a_status_of_its_own(
    stack: Stack, tmp_path: Path, seeded: tuple[str, str]
) -> None:
    impossible = ("--run-time", "6s", "--slo-screen-ms", "0", "--processes", "2")
    async with load_test(stack, tmp_path, *impossible, *seeded) as running:
        outcome = await running.outcome()
    assert outcome.status == EXIT_MISSED, outcome.output
    assert outcome.rows[CONNECT]["num_requests"] == PHONES, "those of both processes"
    assert outcome.rows[SCREEN]["num_failures"] == outcome.rows[SCREEN]["num_requests"] > PHONES
    assert "MISSED on a friend's screen within 0 ms: 0.000 %" in outcome.output


async def test_a_storm_drops_every_connection_of_every_process(
    stack: Stack, tmp_path: Path, seeded: tuple[str, str]
) -> None:
    storm = ("--run-time", "8s", "--scenario", "storm", "--processes", "2")
    async with load_test(stack, tmp_path, *storm, *seeded) as running:
        outcome = await running.outcome()
    assert outcome.status == 0, outcome.output
    assert outcome.rows[RECONNECT]["num_requests"] == PHONES
    assert outcome.rows[SCREEN]["num_requests"] > PHONES


async def test_people_come_back_from_a_gateway_that_is_killed(
    stack: Stack, tmp_path: Path, seeded: tuple[str, str]
) -> None:
    gateway = stack.gateways[0]
    async with load_test(stack, tmp_path, "--run-time", "10s", *seeded) as running:
        await eventually(lambda: everybody_is_connected(stack), within_s=30)
        connected = await connections(gateway)
        stack.kill(gateway.id)
        outcome = await running.outcome()
    assert outcome.status in {0, EXIT_MISSED}, outcome.output
    assert outcome.rows[RECONNECT]["num_requests"] >= connected > 0
    assert outcome.rows[CONNECT]["num_requests"] == PHONES


async def test_reports_that_reach_nobody_count_as_missed(stack: Stack, tmp_path: Path, seeded: tuple[str, str]) -> None:
    before = await reports(stack)

    async def everybody_is_shown() -> bool:
        return await reports(stack) >= before + 3 * PHONES

    async with load_test(stack, tmp_path, "--run-time", "12s", *seeded) as running:
        await eventually(everybody_is_shown, within_s=30)
        for gateway in stack.gateways:
            stack.kill(gateway.id, signal.SIGSTOP)
        try:
            outcome = await running.outcome()
        finally:
            for gateway in stack.gateways:
                stack.kill(gateway.id, signal.SIGCONT)
    assert outcome.status == EXIT_MISSED, outcome.output
    assert outcome.rows[SCREEN]["num_failures"] > 0
