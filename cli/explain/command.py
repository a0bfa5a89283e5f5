"""``nearby explain`` on the command line."""

from __future__ import annotations

import asyncio
import json as json_format
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import httpx
import msgspec
import typer
from rich.console import Console
from rich.table import Table

from cli.explain.verdict import FromApi, FromGateway, verdict
from cli.gateways.admin_port import TIMEOUT_S, AdminRefused, AdminUnreachable, actor
from cli.gateways.command import AdminOption, DataDirOption, first, told
from cli.gateways.find import DEFAULT_DATA_DIR, GatewaysNotFound, find_gateways
from nearby.errors import NearbyError

PATH = "/admin/v1/explain"
A = TypeVar("A", FromApi, FromGateway)


@dataclass(frozen=True, slots=True)
class Where:
    """The admin ports to ask: the API's and the gateways'."""

    api_admin_url: str
    gateway_admin_urls: tuple[str, ...]
    token: str = field(repr=False)


def explain(
    viewer: Annotated[str, typer.Argument(help="Who looks: a handle or a user id.")],
    friend: Annotated[str, typer.Argument(help="Who is or is not seen: a handle or a user id.")],
    reason: Annotated[str, typer.Option(help="Why you ask, for the audit log.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    data_dir: DataDirOption = None,
    api_admin: Annotated[
        str | None, typer.Option(metavar="URL", help="The API's admin port; goes with --admin.", show_default=False)
    ] = None,
    admin: AdminOption = None,
) -> None:
    """Tell why somebody does or does not see a friend right now. Exit code 0 if they do, 3 if they do not.

    Distances are told, places never. Every process that is asked leaves an audit line.
    """
    try:
        where = _find(data_dir, api_admin, admin or [], os.environ)
        known, gateways, silent = asyncio.run(_ask(where, viewer, friend, reason[:200]))
    except NearbyError as error:
        raise told(error) from error
    except BaseExceptionGroup as group:
        raise told(first(group)) from group
    sentence = verdict(known, gateways)
    if json:
        parts = {"verdict": sentence, "api": known, "gateways": gateways, "unreachable": silent}
        typer.echo(json_format.dumps(msgspec.to_builtins(parts)))
    else:
        typer.echo(sentence)
        Console().print(_table(known, gateways))
        for url in silent:
            typer.echo(f"no gateway answers at {url}", err=True)
    seen = any(connection.shown for gateway in gateways for connection in gateway.viewer)
    raise typer.Exit(0 if seen else 3)


def _find(data_dir: Path | None, api_admin: str | None, admin: list[str], environ: Mapping[str, str]) -> Where:
    if bool(api_admin) != bool(admin):
        raise GatewaysNotFound("--api-admin and --admin go together")
    gateways = find_gateways(data_dir, admin, environ)
    if api_admin is None:
        directory = data_dir or DEFAULT_DATA_DIR
        api_admin = json_format.loads((directory / "stack.json").read_text(encoding="utf-8"))["api_admin_url"]
    return Where(api_admin.rstrip("/"), tuple(gateways.admin_urls), gateways.token)


async def _ask(where: Where, viewer: str, friend: str, reason: str) -> tuple[FromApi, list[FromGateway], list[str]]:
    """Return what the API knows, what the gateways know, and the URLs of those that do not answer."""
    headers = {"Authorization": f"Bearer {where.token}", "X-Actor": actor(), "X-Reason": reason}
    # Proxies of the environment are for other hosts than ours.
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, headers=headers) as http:
        known = await _get(http, where.api_admin_url, viewer, friend, FromApi)
        gateways, silent = [], []
        for url in where.gateway_admin_urls:
            try:
                gateways.append(await _get(http, url, known.viewer.user_id, known.friend.user_id, FromGateway))
            except AdminUnreachable:
                silent.append(url)
    return known, gateways, silent


async def _get(http: httpx.AsyncClient, url: str, viewer: str, friend: str, kind: type[A]) -> A:
    try:
        answer = await http.get(f"{url}{PATH}", params={"viewer": viewer, "friend": friend})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise AdminUnreachable(url, type(error).__name__) from error
    try:
        if not answer.is_success:
            problem = msgspec.json.decode(answer.content, type=dict[str, object])
            raise AdminRefused(url, answer.status_code, str(problem.get("code")), str(problem.get("detail")))
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.MsgspecError as error:
        raise AdminUnreachable(url, f"what answers there is none: {answer.status_code}") from error


def _table(known: FromApi, gateways: list[FromGateway]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    rule = known.in_force
    table.add_row("friends", "no" if rule is None else "yes")
    if rule is not None:
        table.add_row("rule", f"{rule.precision} ({rule.reason})")
    for who, location in ((known.viewer, known.viewer_location), (known.friend, known.friend_location)):
        age = "no location" if location is None else f"{_s(location.age_ms)} old, ends in {_s(location.remaining_ms)}"
        table.add_row(who.handle, age)
    if known.distance_m is not None:
        table.add_row("distance", f"{known.distance_m} m")
    for gateway in gateways:
        for watching in gateway.viewer:
            place = (
                "unknown" if watching.distance_m is None else f"{watching.distance_m} m of {watching.radius_m:.0f} m"
            )
            shard = f", {watching.shard}{'' if watching.shard_answers else ' (silent)'}" if watching.shard else ""
            shown = "shown" if watching.shown else "not shown"
            table.add_row(
                gateway.gateway_id, f"{known.viewer.handle} {watching.connection_id}: {shown}, {place}{shard}"
            )
        for publishing in gateway.friend:
            tiers = [name for name in ("exact", "approximate") if getattr(publishing, name)] or ["nothing"]
            table.add_row(
                gateway.gateway_id, f"{known.friend.handle} {publishing.connection_id}: publishes {', '.join(tiers)}"
            )
    return table


def _s(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.0f} s"
