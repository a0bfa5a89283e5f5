"""``nearby ring …`` on the command line."""

from __future__ import annotations

import contextlib
import getpass
import json as json_format
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType

from cli.ring.client import NO_RING, Document, KeeperClient, RingCommandError, open_keeper
from cli.ring.tables import history_table, moved_line, plan_view, ring_view, spare_lines
from cli.ring.watch import watch
from cli.up.data_dir import DEFAULT_DATA_DIR

_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
_PLAIN_WIDTH = 160
"""Columns where there is no terminal: tables are then read by tools, which want no wrapped lines."""

DataDir = Annotated[
    Path,
    typer.Option(help="Find the keeper in the stack.json of this `nearby up`.", show_default=str(DEFAULT_DATA_DIR)),
]
Keeper = Annotated[
    str | None,
    typer.Option(metavar="URL", help="A ring keeper's admin URL instead; the admin token is in NEARBY_ADMIN_TOKEN."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the keeper's answer as JSON.")]
Add = Annotated[
    list[str] | None,
    typer.Option(metavar="ADDRESS", help="A server to add, or SLOT=ADDRESS to name its slot. May be repeated."),
]
Remove = Annotated[list[str] | None, typer.Option(metavar="SLOT|ADDRESS", help="A shard to remove. May be repeated.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]

ring = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
"""The subcommands of ``nearby ring``."""


@ring.callback()
def _ring() -> None:
    """Look at the pub/sub ring, add, remove or replace its servers while everything runs.

    A resize loses nothing: every process subscribes at the new servers first, then all publish there, then the old
    subscriptions end. A dead server is replaced by a spare without you. Addresses are redis://HOST:PORT or
    unix:///SOCKET. What is refused is told in one line, exit code 1.

    \b
    Examples:
      nearby ring show
      nearby ring plan --add redis://10.0.0.9:6379        what would move; changes nothing
      nearby ring resize --add redis://10.0.0.9:6379 --reason "more users"
      nearby ring replace shard-2 redis://10.0.0.9:6379 --reason "new machine"
    """  # noqa: D301 - the backspace tells click to keep the lines


@ring.command()
def show(data_dir: DataDir = DEFAULT_DATA_DIR, keeper: Keeper = None, json: Json = False) -> None:
    """Show every shard with its share and who cannot reach it, the spares, the members and a running resize.

    \b
    Examples:
      nearby ring show
      nearby ring show --json | jq '.shards[] | select(.unreachable_by != [])'
      NEARBY_ADMIN_TOKEN=… nearby ring show --keeper http://10.0.0.5:9090
    """  # noqa: D301 - the backspace tells click to keep the lines
    with _keeper(data_dir, keeper) as client:
        document = client.show()
        _print(document, json, ring_view(document))


@ring.command()
def init(
    add: Annotated[list[str], typer.Option(metavar="ADDRESS", help="A server of the first ring. May be repeated.")],
    reason: Reason = "the first ring",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    keeper: Keeper = None,
    json: Json = False,
) -> None:
    """Begin a ring where there is none yet. Where there is one, nothing is changed, and that is no error.

    \b
    Examples:
      nearby ring init --add redis://10.0.0.1:6379 --add redis://10.0.0.2:6379
    """  # noqa: D301 - the backspace tells click to keep the lines
    with _keeper(data_dir, keeper) as client:
        try:
            document = client.show()
        except RingCommandError as error:
            if error.code != NO_RING:
                raise
            document = client.resize(add, [], reason, _actor())
        _print(document, json, f"Ring {document['epoch']} has {len(document['shards'])} shards.")


@ring.command()
def plan(
    add: Add = None,
    remove: Remove = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    keeper: Keeper = None,
    json: Json = False,
) -> None:
    """Show what a resize would move. Nothing is changed, and the servers need not be there yet.

    \b
    Examples:
      nearby ring plan --add redis://10.0.0.9:6379
      nearby ring plan --add blue=redis://10.0.0.9:6379 --remove shard-2
    """  # noqa: D301 - the backspace tells click to keep the lines
    with _keeper(data_dir, keeper) as client:
        document = client.plan(_some(add, remove), remove or [])
        _print(document, json, plan_view(document))


@ring.command()
def resize(
    reason: Reason,
    add: Add = None,
    remove: Remove = None,
    spares: Annotated[int, typer.Option(min=0, help="How many of the spares that answer to add, in their order.")] = 0,
    detach: Annotated[bool, typer.Option("--detach", help="Begin it and do not watch.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    keeper: Keeper = None,
    json: Json = False,
) -> None:
    """Add or remove shards, or both at once, and watch until it is done.

    Ctrl-C ends the watching, not the resize; `nearby ring abort` ends the resize while members are preparing.

    \b
    Examples:
      nearby ring resize --add redis://10.0.0.9:6379 --reason "more users"
      nearby ring resize --spares 2 --reason "more users"
      nearby ring resize --remove shard-3 --reason "too many" --detach
      nearby ring resize --add unix:///work/.nearby/run/spare-1.sock --reason "try it with `nearby up`"
    """  # noqa: D301 - the backspace tells click to keep the lines
    with _keeper(data_dir, keeper) as client:
        console = _console(stderr=json)
        added = [*(add or []), *_answering_spares(client, spares)]
        planned = client.plan(_some(added, remove), remove or [])
        document = client.resize(added, remove or [], reason, _actor())
        if document["resize"] is not None and not detach:
            console.print(f"{moved_line(planned)}. Ctrl-C stops watching, not the resize.")
            document = _watched(client, document["resize"]["epoch"], set(planned["nodes"]), console)
        elif document["resize"] is not None:
            console.print(f"{moved_line(planned)}. See `nearby ring show`.")
        _print(document, json, f"Ring {planned['epoch']} has {len(planned['nodes'])} shards." if not detach else None)


@ring.command()
def replace(
    slot: Annotated[str, typer.Argument(help="The slot, as `nearby ring show` has it.")],
    address: Annotated[str, typer.Argument(help="The server that takes over; a spare or another one.")],
    reason: Reason,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    keeper: Keeper = None,
    json: Json = False,
) -> None:
    """Put another server in the place of a shard. No partition moves; its channels are quiet for about a second.

    \b
    Examples:
      nearby ring replace shard-2 redis://10.0.0.9:6379 --reason "new machine"
    """  # noqa: D301 - the backspace tells click to keep the lines
    with _keeper(data_dir, keeper) as client:
        document = client.replace(slot, address, reason, _actor())
        _print(document, json, f"Ring {document['epoch']}: {slot} is {address} now.")


@ring.command()
def abort(
    reason: Reason = "asked for", data_dir: DataDir = DEFAULT_DATA_DIR, keeper: Keeper = None, json: Json = False
) -> None:
    """Give a resize up while its members are preparing; once it is committed, resize back instead.

    \b
    Examples:
      nearby ring abort --reason "wrong server"
    """  # noqa: D301 - the backspace tells click to keep the lines
    with _keeper(data_dir, keeper) as client:
        document = client.abort(reason, _actor())
        _print(document, json, "The resize is given up; nothing has moved.")


@ring.command()
def history(data_dir: DataDir = DEFAULT_DATA_DIR, keeper: Keeper = None, json: Json = False) -> None:
    """Show what was done to the ring, by whom and why: the newest 200 actions, oldest first.

    \b
    Examples:
      nearby ring history
      nearby ring history --json | jq '.actions[] | select(.action == "replace")'
    """  # noqa: D301 - the backspace tells click to keep the lines
    with _keeper(data_dir, keeper) as client:
        document = client.history()
        _print(document, json, history_table(document["actions"], f"{len(document['actions'])} actions"))


@ring.command()
def spares(
    add: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="An idle server. May be repeated.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="A spare to take away. May be repeated.")
    ] = None,
    reason: Reason = "asked for",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    keeper: Keeper = None,
    json: Json = False,
) -> None:
    """Change which idle servers wait to replace a shard that dies.

    \b
    Examples:
      nearby ring spares --add redis://10.0.0.9:6379
      nearby ring spares --remove redis://10.0.0.9:6379
    """  # noqa: D301 - the backspace tells click to keep the lines
    with _keeper(data_dir, keeper) as client:
        document = client.spares(_some(add, remove), remove or [], reason, _actor())
        _print(document, json, "\n".join(spare_lines(document)))


@contextlib.contextmanager
def _keeper(data_dir: Path, keeper: str | None) -> Iterator[KeeperClient]:
    """Yield the keeper; what it refuses is told in a line, exit code 1."""
    try:
        with open_keeper(data_dir, keeper, os.environ) as client:
            yield client
    except RingCommandError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _watched(client: KeeperClient, epoch: int, slots: set[str], console: Console) -> Document:
    try:
        return watch(client, epoch, slots, console)
    except KeyboardInterrupt as error:
        typer.echo("The resize goes on; see `nearby ring show`.", err=True)
        raise typer.Exit(_INTERRUPTED) from error


def _answering_spares(client: KeeperClient, count: int) -> list[str]:
    """Return the first ``count`` spares that answer.

    Raises:
        RingCommandError: there are not so many.
    """
    if not count:
        return []
    answering = [str(spare["address"]) for spare in client.show()["spares"] if spare["answers"]]
    if len(answering) < count:
        raise RingCommandError("few_spares", f"{len(answering)} spares answer, not {count}; see `nearby ring show`")
    return answering[:count]


def _some(add: list[str] | None, remove: list[str] | None) -> list[str]:
    """Return what is to be added, having made sure that anything is to be done."""
    if not add and not remove:
        raise typer.BadParameter("name what to --add or to --remove")
    return add or []


def _actor() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"  # a user id without a name, as in a container


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, markup=False, highlight=False, emoji=False, width=None if stream.isatty() else _PLAIN_WIDTH
    )


def _print(document: Document, json: bool, view: RenderableType | None) -> None:
    if json:
        typer.echo(json_format.dumps(document))
    elif view is not None:
        _console().print(view)
