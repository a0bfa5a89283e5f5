"""``nearby capacity`` on the command line."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import asdict
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from cli.capacity.constants import COMPILED, INTERPRETED, Constants, measured
from cli.capacity.load import CodecName, Load, NonsenseLoad
from cli.capacity.plan import Machines, Plan, plan
from cli.capacity.tables import plan_view

_PLAIN_WIDTH = 160
"""Columns where there is no terminal: tables are then read by tools, which want no wrapped lines."""


def capacity(
    users: Annotated[str, typer.Option(help="People who have it; 250000, 250k or 100M.")] = "100M",
    connected: Annotated[float, typer.Option(help="The share of them connected at once, at the peak.")] = 0.1,
    friends: Annotated[int, typer.Option(help="Friends of each; a gateway subscribes to all of them.")] = 40,
    friends_connected: Annotated[
        float, typer.Option(help="The share of a connected user's friends who are connected, too.")
    ] = 1.0,
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Between two reports of one phone.")] = 30.0,
    radius: Annotated[float, typer.Option(metavar="KM", help="Within which friends are shown.")] = 8.047,
    area: Annotated[
        float | None,
        typer.Option(
            metavar="KM", help="Radius of the disc over which friends are spread. [default: all are near each other]"
        ),
    ] = None,
    approximate: Annotated[float, typer.Option(help="The share of friendships that show only the cell.")] = 0.0,
    session: Annotated[float, typer.Option(metavar="MINUTES", help="How long a connection lasts.")] = 30.0,
    rest: Annotated[float, typer.Option(help="REST requests in each session.")] = 5.0,
    retention: Annotated[float, typer.Option(metavar="DAYS", help="How long the history is kept.")] = 90.0,
    linger: Annotated[
        float, typer.Option(metavar="SECONDS", help="For which history writers gather points; 0: they do not.")
    ] = 300.0,
    peak_to_mean: Annotated[
        float, typer.Option(help="The peak over the mean of a day; lessens disks and monthly traffic.")
    ] = 1.0,
    celebrities: Annotated[float, typer.Option(help="The share of people with 5,000 friends, for hot spots.")] = 1e-5,
    codec: Annotated[Literal["json", "msgpack"], typer.Option(help="What phones speak.")] = "json",
    tls: Annotated[bool, typer.Option(help="Count the bytes of TLS; its CPU time is the load balancer's.")] = False,
    utilisation: Annotated[float, typer.Option(help="How much of a core to use at the peak.")] = 0.6,
    connections: Annotated[int, typer.Option(min=1, help="Connections of one gateway process, at most.")] = 10_000,
    interpreted: Annotated[
        bool, typer.Option("--interpreted", help="Gateways without the compiled fan-out of the wheel.")
    ] = False,
    constants: Annotated[bool, typer.Option("--constants", help="Print the measured figures behind it all.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, in bytes and seconds.")] = False,
) -> None:
    """Say how many servers a load takes, which of them run hot, and what drives the cost.

    Without options: the load that this system is designed for, 100 million daily users of whom 10 million are
    connected, a report every 30 s, 40 connected friends near each of them.

    Nothing is contacted. It multiplies measured costs by what happens in a second, leaves headroom, and simulates
    how evenly the ring and the users' activity load the servers. docs/capacity.md tells the model and its limits.
    """
    known = INTERPRETED if interpreted else COMPILED
    if constants:
        _print_constants(known, json)
        return
    try:
        load = Load(
            users=_people(users),
            connected=connected,
            friends=friends,
            friends_connected=friends_connected,
            interval_s=interval,
            radius_km=radius,
            area_km=area,
            approximate=approximate,
            session_s=session * 60,
            rest_per_session=rest,
            retention_days=retention,
            linger_s=linger,
            peak_to_mean=peak_to_mean,
            codec=_codec(codec),
            tls=tls,
        )
        machines = Machines(utilisation=utilisation, gateway_connections=connections)
        _print(plan(load, known, machines, celebrities), json)
    except NonsenseLoad as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _people(text: str) -> int:
    """Return a number of people such as 250000, 250k or 1.5M.

    Raises:
        NonsenseLoad: it is none.
    """
    factor = {"k": 1_000, "M": 1_000_000}.get(text[-1:], 1)
    try:
        return round(float(text.removesuffix("k").removesuffix("M").replace("_", "").replace(",", "")) * factor)
    except (ValueError, OverflowError) as error:
        raise NonsenseLoad("--users", text, "a number such as 250000, 250k or 100M") from error


def _codec(name: str) -> CodecName:
    return "msgpack" if name == "msgpack" else "json"


def _console() -> Console:
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    return Console(markup=False, highlight=False, emoji=False, width=width)


def _print(answer: Plan, json: bool) -> None:
    if json:
        typer.echo(json_format.dumps(asdict(answer)))
    else:
        _console().print(plan_view(answer))


def _print_constants(known: Constants, json: bool) -> None:
    if json:
        typer.echo(json_format.dumps({name: asdict(constant) for name, constant in measured(known)}))
        return
    table = Table(title="Measured constants", title_justify="left")
    for title in ("constant", "value", "of what", "measured by", "on"):
        table.add_column(title, justify="right" if title == "value" else "left")
    for name, constant in measured(known):
        table.add_row(name, f"{constant.value:,g} {constant.unit}", constant.what, constant.source, constant.date)
    _console().print(table)
