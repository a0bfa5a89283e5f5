"""``nearby gateways`` on the command line."""

from __future__ import annotations

import asyncio
import json as json_format
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.gateways.admin_port import open_ports
from cli.gateways.find import Gateways, GatewaysNotFound, find_gateways
from cli.gateways.report import UNREACHABLE, Row, rows, table
from nearby.errors import NearbyError

DataDirOption = Annotated[
    Path | None, typer.Option(help="Where the stack.json of a running `nearby up` is.", show_default=".nearby")
]
AdminOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL", help="The admin port of a gateway, http://HOST:PORT; may be repeated. Needs NEARBY_ADMIN_TOKEN."
    ),
]


def gateways(
    data_dir: DataDirOption = None,
    admin: AdminOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List the gateways: state, connections, reports per second, epoch of the ring, lag of the event loop.

    Exit code 1 if one of them does not answer.
    """
    try:
        found = asyncio.run(_rows(find_gateways(data_dir, admin or [], os.environ)))
    except NearbyError as error:
        raise told(error) from error
    except BaseExceptionGroup as group:
        raise told(first(group)) from group
    if json:
        typer.echo(json_format.dumps([row.as_dict() for row in found]))
    else:
        Console().print(table(found))
    if any(row.state == UNREACHABLE for row in found):
        raise typer.Exit(1)


async def _rows(where: Gateways) -> list[Row]:
    async with open_ports(where.admin_urls, where.token) as ports:
        return await rows(ports, where)


def told(error: NearbyError) -> typer.Exit:
    """Write ``error`` in one line and return the exit: 2 for what the caller must change first, else 1."""
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(2 if isinstance(error, GatewaysNotFound) else 1)


def first(group: BaseExceptionGroup[BaseException]) -> NearbyError:
    """Return the first error of ours in ``group``; anything else in it is a defect, and raised."""
    ours, other = group.split(NearbyError)
    if other is not None or ours is None:
        raise group
    error: BaseException = ours
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, NearbyError)
    return error
