"""``nearby up`` on the command line."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from cli.up.data_dir import DEFAULT_DATA_DIR, open_data_dir
from cli.up.errors import StartError
from cli.up.listen_ports import API_OPTION, GATEWAYS_OPTION, reserve_ports
from cli.up.plan import DATABASE_URL, RING_AUTH, Layout, Ports, Programs, check_settings, plan, shown_settings
from cli.up.secrets_file import load_secrets, masked_secrets
from cli.up.stack import StackPlan, run
from cli.up.terminal import complain, say, settings_lines
from cli.up.valkey import valkey_server
from nearby.errors import NearbyError, SettingsError
from nearby.settings import DiscoverySettings, database_url, load, redis_servers

_ENSEMBLE = re.compile(r"[^\s,:/@]+:\d+(,[^\s,:/@]+:\d+)*")
_CROWD = ("--seconds", "0", "--users", "60", "--friends", "12")
"""Small enough to be on its feet in ten seconds: befriending two people takes some 15 ms."""

MOST_SHARDS = 100
"""Each is a process of its own; a machine has no use for more."""


def parse_ports(text: str) -> tuple[int, ...]:
    """Parse ``8081,8082``.

    Raises:
        BadParameter: a word is not a port, or there is none.
    """
    try:
        ports = tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of ports such as 8081,8082") from error
    if not all(0 <= port <= 65_535 for port in ports):
        raise typer.BadParameter("a port is a number from 0 to 65535")
    return ports


def parse_database(text: str) -> str:
    """Take the URL of a user database; empty text too.

    Raises:
        BadParameter: it is something else. The text is not quoted, because it may hold a password.
    """
    try:
        return database_url(text).value if text else ""
    except ValueError:
        raise typer.BadParameter("not a URL such as postgresql://USER:PASSWORD@HOST/DATABASE") from None


def parse_zookeeper(text: str) -> str:
    """Take ``HOST:PORT``, or several separated by commas; empty text too.

    Raises:
        BadParameter: it is something else.
    """
    if text and not _ENSEMBLE.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is not HOST:PORT, or several separated by commas")
    return text


def parse_cache(text: str) -> str:
    """Take the address of a location cache; empty text too.

    Raises:
        BadParameter: it is something else. The message does not show it, since it may hold a password.
    """
    try:
        return redis_servers(text) if text else text
    except ValueError as error:
        raise typer.BadParameter(f"no address such as redis+sentinel://HOST:PORT/SERVICE: {error}") from None


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose. ``data_dir`` is ``None`` if it did not."""

    data_dir: Path | None
    ephemeral: bool
    api_port: int
    gateway_ports: tuple[int, ...]
    shards: int
    spares: int
    zookeeper: str
    cache: str = field(repr=False)
    database: str
    simulate: bool
    restart_shards: bool


def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where databases, logs and secrets are kept; made if missing.", show_default=str(DEFAULT_DATA_DIR)
        ),
    ] = None,
    ephemeral: Annotated[
        bool,
        typer.Option(
            "--ephemeral",
            help="Keep nothing: Valkey writes nothing to disk, and the data directory is a temporary one, removed at "
            "the end. With --data-dir, the files of this run stay there to be looked at.",
        ),
    ] = False,
    api_port: Annotated[
        int, typer.Option(API_OPTION, min=0, max=65_535, help="Port of the API; 0: any free one.")
    ] = 8080,
    gateway_ports: Annotated[
        str,
        typer.Option(
            GATEWAYS_OPTION, metavar="PORT,…", help="One WebSocket gateway for each of these ports; 0: any free one."
        ),
    ] = "8081,8082",
    shards: Annotated[int, typer.Option(min=1, max=MOST_SHARDS, help="How many pub/sub shards make up the ring.")] = 2,
    spares: Annotated[
        int,
        typer.Option(min=0, max=MOST_SHARDS, help="How many idle shards wait to take the place of one that dies."),
    ] = 1,
    zookeeper: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="Announce members and the ring in this ZooKeeper instead of a directory of files."
        ),
    ] = "",
    cache: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Keep locations in this cache, which runs already, instead of a server of our own: redis://HOST:PORT, "
            "redis+sentinel://HOST:PORT,…/SERVICE or redis+cluster://HOST:PORT,…",
        ),
    ] = "",
    database: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Keep users in this database, such as postgresql://USER:PASSWORD@HOST/DATABASE, instead of a file of "
            "SQLite. A password is safer in the variable.",
            envvar=DATABASE_URL,
        ),
    ] = "",
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Once ready, let a crowd walk about (see `nearby simulate --help`).")
    ] = False,
    print_env: Annotated[
        bool,
        typer.Option(
            "--print-env", help="Print the NEARBY_ variables each process would get, secrets masked; start nothing."
        ),
    ] = False,
    no_restart_shards: Annotated[
        bool,
        typer.Option(
            "--no-restart-shards", hidden=True, help="Leave a pub/sub shard that dies dead, so that a spare takes over."
        ),
    ] = False,
) -> None:
    """Run all of nearby on this machine: API, gateways, history writer, ring keeper, and their Valkey servers.

    Every part is a process of its own, as in production; only the addresses differ. One that dies is started again;
    a pub/sub shard that does not stay up is replaced by a spare (see `nearby ring --help`), and is a spare itself once
    it is back. Each start makes the ring anew from --shards and --spares. Ctrl-C stops everything. Settings are
    NEARBY_ variables of the environment; those you set reach every process, except addresses, ports and names, which
    are chosen here.

    \b
    Examples:
      nearby up                                  API on 8080, gateways on 8081 and 8082, data in .nearby/
      nearby up --simulate                       the same, with people walking about
      nearby up --ephemeral --api-port 0 --gateway-ports 0,0,0
                                                 three gateways, any free ports, nothing kept
      NEARBY_REPORT_INTERVAL_S=5 nearby up       phones report every 5 s
      nearby up --shards 3 --spares 2            two of five pub/sub servers wait
      nearby up --zookeeper 127.0.0.1:2181       members and ring in ZooKeeper
      nearby up --cache redis+sentinel://127.0.0.1:26379/nearby
                                                 locations in a cache with a standby
      nearby up --database postgresql:///nearby  users in PostgreSQL
      nearby up --print-env                      what each process is told
      jq . .nearby/stack.json                    where everything is, while it runs
    """  # noqa: D301 - the backspace tells click to keep the lines
    options = Options(
        data_dir,
        ephemeral,
        api_port,
        parse_ports(gateway_ports),
        shards,
        spares,
        parse_zookeeper(zookeeper),
        parse_cache(cache),
        parse_database(database),
        simulate,
        not no_restart_shards,
    )
    try:
        if print_env:
            _print_env(options)
            return
        with _prepared(options) as stack:
            _run(stack)
    except NearbyError as error:
        raise _told(error) from error


def _run(stack: StackPlan) -> None:
    """Run a stack; of several processes that failed, the first is told, while its log is still there."""
    try:
        asyncio.run(run(stack, say))
    except* NearbyError as group:
        raise _told(leaves(group)[0]) from group


def _told(error: NearbyError) -> typer.Exit:
    complain(error)
    return typer.Exit(exit_status(error))


def exit_status(error: NearbyError) -> int:
    """Return 2 for what the caller must change first, 1 for what failed."""
    if isinstance(error, StartError):
        return error.exit_status
    return 2 if isinstance(error, SettingsError) else 1


def leaves(group: BaseExceptionGroup[NearbyError]) -> list[NearbyError]:
    """Return the errors of a group and of the groups in it, in their order."""
    found: list[NearbyError] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


@contextlib.contextmanager
def _prepared(options: Options) -> Iterator[StackPlan]:
    environ = dict(os.environ)
    programs = Programs(sys.executable, valkey_server())
    with (
        open_data_dir(options.data_dir, ephemeral=options.ephemeral) as (opened, lock),
        reserve_ports(_host(environ), options.api_port, options.gateway_ports) as ports,
    ):
        layout = dataclasses.replace(
            opened, zookeeper=options.zookeeper, cache=options.cache, database=options.database
        )
        secrets = load_secrets(layout.secrets_file, environ)
        specs = plan(
            layout,
            ports,
            options.shards,
            secrets,
            programs,
            persistent=not options.ephemeral,
            spare_count=options.spares,
        )
        check_settings(specs, environ)
        crowd = programs.module("cli", "simulate", "--data-dir", str(layout.data_dir), *_CROWD)
        own = {"NEARBY_DISCOVERY": layout.discovery_url, RING_AUTH: secrets[RING_AUTH]}
        yield StackPlan(
            layout=layout,
            lock=lock,
            specs=specs,
            migration=programs.module("social_graph"),
            simulate=crowd if options.simulate else (),
            environ=environ,
            admin_token=secrets["NEARBY_ADMIN_TOKEN"],
            discovery=load(DiscoverySettings, environ | own),
            restart_shards=options.restart_shards,
        )


def _print_env(options: Options) -> None:
    directory = (options.data_dir or DEFAULT_DATA_DIR).absolute()
    ports = Ports(
        _host(os.environ),
        api=options.api_port,
        gateways=options.gateway_ports,
        gateway_admins=tuple(0 for _ in options.gateway_ports),
    )
    programs = Programs(sys.executable, valkey_server())
    layout = Layout(directory, directory / "run", options.zookeeper, options.cache, options.database)
    specs = plan(
        layout,
        ports,
        options.shards,
        masked_secrets(),
        programs,
        persistent=not options.ephemeral,
        spare_count=options.spares,
    )
    for line in settings_lines(specs, [shown_settings(spec) for spec in specs]):
        say(line)


def _host(environ: Mapping[str, str]) -> str:
    return environ.get("NEARBY_HOST", "127.0.0.1")
