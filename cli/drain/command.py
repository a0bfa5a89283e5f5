"""``nearby drain`` on the command line: the options, Ctrl-C and the exit code."""

from __future__ import annotations

import asyncio
import json as json_format
import os
import re
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

import msgspec
import typer

from cli.drain import run
from cli.drain.progress import drawn, line
from cli.gateways.admin_port import DrainStatus, open_ports
from cli.gateways.command import AdminOption, DataDirOption, first, told
from cli.gateways.find import Gateways, find_gateways
from nearby.errors import NearbyError

T = TypeVar("T")

_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3_600}


def parse_duration_s(text: str) -> float:
    """Parse ``120``, ``120s``, ``2m`` or ``1h`` as seconds.

    Raises:
        BadParameter: it is none of these, or zero.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    seconds = float(match[1]) * _UNITS_S[match[2]] if match else 0.0
    if not 0 < seconds <= 86_400:
        raise typer.BadParameter(f"{text!r} is not a duration such as 120s or 2m, up to a day")
    return seconds


def drain(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="GATEWAY…", help="Names, as `nearby gateways` shows them.")
    ] = None,
    deadline: Annotated[
        str, typer.Option(metavar="DURATION", help="When all of it is over, whoever is still connected.")
    ] = "120s",
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, max=1_000_000, help="Clients sent away per second. [default: the gateway's setting]"),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")] = "",
    detach: Annotated[bool, typer.Option("--detach", help="Start it and do not watch.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Let the gateways serve again; possible until clients are sent away.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Tell how it goes, and change nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array at the end, and nothing else.")] = False,
    data_dir: DataDirOption = None,
    admin: AdminOption = None,
) -> None:
    """Send the clients of gateways away to the others, at a steady rate, and let the gateways end.

    All of the named gateways are taken out of service before the first client of any of them is told. Ctrl-C stops
    watching, not draining. Exit code 0 once every one of them is drained.
    """
    if status and cancel:
        raise typer.BadParameter("--status and --cancel exclude each other")
    if not names and not status:
        raise typer.BadParameter("name the gateways; `nearby gateways` lists them")
    request = run.Request(parse_duration_s(deadline), rate, reason[:200])
    try:
        where = find_gateways(data_dir, admin or [], os.environ)
        if status or cancel:
            act = run.statuses if status else run.cancel
            last = asyncio.run(_at(where, names or [], act))
            watched = True
        else:
            watched, last = asyncio.run(_at(where, names or [], lambda chosen: _drain(chosen, request, detach, json)))
    except NearbyError as error:
        raise told(error) from error
    except BaseExceptionGroup as group:
        raise told(first(group)) from group
    _print(last, json=json)
    if not watched:
        typer.echo("No longer watching; it goes on. See `nearby drain --status`.", err=True)
        raise typer.Exit(_INTERRUPTED)


async def _at(where: Gateways, names: Sequence[str], act: Callable[[run.Chosen], Awaitable[T]]) -> T:
    async with open_ports(where.admin_urls, where.token) as ports:
        return await act(await run.choose(ports, list(dict.fromkeys(names)), where))


async def _drain(chosen: run.Chosen, request: run.Request, detach: bool, quiet: bool) -> tuple[bool, list[DrainStatus]]:
    """Return whether we watched to the end, and what the gateways said last."""
    interrupted = asyncio.Event()
    # From here on, so that Ctrl-C does not leave some gateways marked and none started.
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    begun = await run.begin(chosen, request)
    if detach:
        return True, begun
    with drawn(quiet=quiet) as progress:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(run.watch(chosen, progress))
            interruption = tasks.create_task(interrupted.wait())
            await asyncio.wait([watching, interruption], return_when=asyncio.FIRST_COMPLETED)
            watching.cancel()
            interruption.cancel()
    return (False, []) if watching.cancelled() else (True, watching.result())


def _print(last: Sequence[DrainStatus], *, json: bool) -> None:
    if json:
        typer.echo(json_format.dumps([msgspec.to_builtins(each) for each in last]))
        return
    for each in last:
        typer.echo(line(each))
