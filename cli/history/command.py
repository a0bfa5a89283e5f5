"""``nearby history …`` on the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json as json_format
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.history.lines import Lag, count_table, lag_line, lag_of, lag_table, tail_line
from cli.history.writers import Sample, Writers, WritersNotFound, find_writers, open_ports
from cli.up.data_dir import DEFAULT_DATA_DIR
from nearby.errors import NearbyError

DataDir = Annotated[
    Path,
    typer.Option(help="Find the writer in the stack.json of this `nearby up`.", show_default=str(DEFAULT_DATA_DIR)),
]
Writer = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL", help="A history writer's admin URL instead; may be repeated. `count` needs NEARBY_ADMIN_TOKEN."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

history = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
"""The subcommands of ``nearby history``."""


@history.callback()
def _history() -> None:
    """How the history is doing, in numbers. Where anybody was is never shown.

    Points wait in the history streams until a history writer has stored them. Lost are points that the streams dropped
    because the store was away for too long. What is refused is told in one line, exit code 1 or 2.

    \b
    Examples:
      nearby history lag                          what waits, for how long, what was lost
      nearby history tail --interval 5            the same every five seconds, with points stored per second
      nearby history count 3f1c…-a2 --from 2026-01-01
                                                  how many points are kept of a user, by day
      NEARBY_HISTORY_URL=cassandra://10.0.0.1,10.0.0.2/nearby nearby history migrate
                                                  make or upgrade the schema, before new versions are started
    """  # noqa: D301 - the backspace tells click to keep the lines


@history.command()
def lag(data_dir: DataDir = DEFAULT_DATA_DIR, writer: Writer = None, json: Json = False) -> None:
    """Tell what waits to be stored, and what each writer is doing; exit code 1 if one does not answer.

    Writers look at the streams every five seconds.
    """
    with _told():
        samples = asyncio.run(_samples(find_writers(data_dir, writer or [], os.environ)))
    together = lag_of(samples)
    if json:
        typer.echo(json_format.dumps({**asdict(together), "writers": [asdict(sample) for sample in samples]}))
    else:
        Console().print(lag_table(samples))
        typer.echo(lag_line(together))


@history.command()
def tail(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    writer: Writer = None,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two lines.")] = 5.0,
    lines: Annotated[int, typer.Option(min=0, help="Lines to print; 0: until Ctrl-C.")] = 0,
    json: Json = False,
) -> None:
    """Print a line every few seconds: points stored per second, points that wait and for how long, points lost."""
    with _told(), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_tail(find_writers(data_dir, writer or [], os.environ), interval, lines, json=json))


@history.command()
def count(
    user_id: Annotated[str, typer.Argument(metavar="USER", help="The user's id, a UUID.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    writer: Writer = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="DAY", help="The first day (UTC), 2026-01-31.")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="DAY", help="The last day (UTC), included.")] = None,
    json: Json = False,
) -> None:
    """Tell how many points the store keeps of a user, by day."""
    with _told():
        found = asyncio.run(_count(find_writers(data_dir, writer or [], os.environ), user_id, from_, to))
    if json:
        typer.echo(json_format.dumps(found))
    else:
        Console().print(count_table(list(found["days"].items())))
        typer.echo(f"{found['total']:,} points")


@history.command()
def migrate() -> None:
    """Make the schema of the history store, or bring it up to date. Doing it again changes nothing.

    The store is the one in NEARBY_HISTORY_URL; NEARBY_CASSANDRA_REPLICATION says in how many copies a new keyspace is
    kept, NEARBY_HISTORY_RETENTION_DAYS for how long points are to be. SQLite needs none of this.
    """
    command = [sys.executable, "-P", "-m", "location_history", "migrate"]
    raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own module


async def _samples(writers: Writers) -> list[Sample]:
    async with open_ports(writers) as ports:
        return [await port.sample() for port in ports]


async def _tail(writers: Writers, interval_s: float, lines_count: int, *, json: bool) -> None:
    before, before_s = lag_of(await _samples(writers)), time.monotonic()
    printed_count = 0
    while not lines_count or printed_count < lines_count:
        await asyncio.sleep(interval_s)
        now, now_s = lag_of(await _samples(writers)), time.monotonic()
        typer.echo(_tail_text(before, now, now_s - before_s, json=json))
        before, before_s = now, now_s
        printed_count += 1


def _tail_text(before: Lag, now: Lag, seconds: float, *, json: bool) -> str:
    if json:
        return json_format.dumps({"at_ms": time.time_ns() // 1_000_000, **asdict(now)})
    return f"{time.strftime('%H:%M:%S')}  {tail_line(before, now, seconds)}"


async def _count(writers: Writers, user_id: str, first_day: str | None, last_day: str | None) -> dict[str, Any]:
    async with open_ports(writers) as ports:
        return await ports[0].count(user_id, first_day, last_day)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell errors of ours in one line: exit code 2 for what the caller must change first, else 1."""
    try:
        yield
    except NearbyError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, WritersNotFound) else 1) from error
