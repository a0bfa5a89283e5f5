"""Phones by the ten thousand: ``python -m loadtest.dense``, against a stack of its own or any other."""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
import tempfile
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from pathlib import Path

import msgspec

from loadtest.arguments import add_options, slo_of
from loadtest.dense.places import OTHER_FILES, TooFewFiles, allow_files
from loadtest.dense.report import Narrator, Steady
from loadtest.dense.rows import RowSet
from loadtest.dense.workers import WorkerFailed, Workers, started
from loadtest.seed import write_people
from loadtest.verdict import EXIT_MISSED, goals, lines
from tests.support.seeding import seed
from tests.support.stack import running_stack

_HELP = """\
The load test for more phones than Locust can hold: ten thousand and more in each process. Scenarios, goals and numbers
are those of the one with Locust; people are made beforehand, and nobody makes friends meanwhile.

Ends with 0 if all goals were met, with 3 if one was missed, with 1 or 2 if the test itself did not work.

Examples:
  python -m loadtest.dense                             a stack for this test alone, a thousand people, half a minute
  python -m loadtest.dense --users 4000 --scenario storm --run-time 1m
                                                       everybody comes back at once
  python -m loadtest.seed --data-dir .nearby --count 10000 --friends 40 people.jsonl
  python -m loadtest.dense --host http://127.0.0.1:8080 --people people.jsonl --users 10000 --interval 10
                                                       a stack that runs already, with 10,000 people made for it

What each number means: docs/load-testing.md
"""
_TIME = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(prog="python -m loadtest.dense", description=_HELP, formatter_class=_HelpFormatter)
    fleet = parser.add_argument_group("the fleet")
    fleet.add_argument("--host", default="", help="The API, as http://…; without it a stack is started for this test.")
    fleet.add_argument("--users", type=_count, default=1000, help="How many phones at most.")
    fleet.add_argument("--spawn-rate", type=_count, default=200, help="How many phones come, or go, in a second.")
    fleet.add_argument("--run-time", type=_seconds, default="30s", help="As 90s, 5m, 1h30m.")
    fleet.add_argument("--processes", type=_count, default=1, help="Processes that share the phones; one per core.")
    fleet.add_argument("--codec", choices=["json", "msgpack"], default="json", help="How messages are written.")
    fleet.add_argument(
        "--sources", default="", help="Addresses to connect from, with commas; 28,000 connections to a port each."
    )
    fleet.add_argument("--json-file", default="", help="Write the rows to this file, .json appended, as Locust does.")
    add_options(parser)
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    match = _TIME.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    if not (hours or minutes or seconds):
        raise ArgumentTypeError(f"{text!r} is not a time such as 90s, 5m or 1h30m")
    return float(3600 * hours + 60 * minutes + seconds)


async def main(options: Namespace) -> int:
    """Run the fleet and judge it; return the exit status."""
    try:
        allow_files(ceil(options.users / options.processes) + OTHER_FILES)
        async with _target(options) as (api_url, people), started(options, api_url, people) as workers:
            return await _run(options, workers)
    except (TooFewFiles, _TooFewPeople) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except WorkerFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1


class _TooFewPeople(Exception):
    pass


def _people(options: Namespace) -> Path:
    file = Path(options.people)
    count = len(file.read_text().splitlines()) if file.is_file() else 0
    if count < options.users:
        raise _TooFewPeople(f"--people must name a file of {options.users} people (see loadtest.seed), not of {count}")
    return file


@asynccontextmanager
async def _target(options: Namespace) -> AsyncIterator[tuple[str, Path]]:
    """Yield the API's URL and the file of people: those given, or of a stack for this test alone.

    Raises:
        _TooFewPeople: there are not as many as phones.
    """
    if options.host:
        yield options.host, _people(options)
        return
    with tempfile.TemporaryDirectory() as directory:
        # Who wants more than two reports a second of each phone shall have them.
        async with running_stack(Path(directory), {"NEARBY_MESSAGE_RATE": "0"}) as stack:
            people = Path(directory) / "people.jsonl"
            friends = min(options.friends // 2, (options.users - 1) // 2) * 2
            write_people(people, seed(stack.data_dir, options.users, friends))
            yield stack.api_url, people


async def _run(options: Namespace, workers: Workers) -> int:
    narrator, steady = Narrator(sys.stdout), Steady(options.users)

    def on_progress() -> None:
        steady.note(workers.progress)
        narrator.tell(workers.progress, workers.rows)

    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, workers.stop)
    await workers.run(on_progress)
    return _judge(options, workers.rows, steady)


def _judge(options: Namespace, rows: RowSet, steady: Steady) -> int:
    judged = goals(rows, slo_of(options))
    sys.stdout.write("\n".join(["", "Verdict", *lines(rows, judged), *steady.lines(), ""]))
    if options.json_file:
        Path(f"{options.json_file}.json").write_bytes(msgspec.json.format(msgspec.json.encode(rows.rows())))
    return 0 if all(goal.met for goal in judged) else EXIT_MISSED


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parser().parse_args())))
