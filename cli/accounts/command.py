"""``nearby accounts …`` on the command line."""

from __future__ import annotations

import contextlib
import json as json_format
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.accounts.api_port import ApiNotFound, ApiPort, open_api_port
from cli.gateways.find import DEFAULT_DATA_DIR
from nearby.errors import NearbyError

PAGE = 500
"""As many as the API takes in one transaction."""
_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

DataDir = Annotated[
    Path, typer.Option(help="Where the stack.json of a running `nearby up` is.", show_default=str(DEFAULT_DATA_DIR))
]
ApiAdmin = Annotated[
    str | None, typer.Option(metavar="URL", help="An API's admin URL instead; the token is in NEARBY_ADMIN_TOKEN.")
]
Reason = Annotated[str, typer.Option(help="Why, for the audit log.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]

accounts = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
"""The subcommands of ``nearby accounts``."""


@accounts.callback()
def _accounts() -> None:
    """Log people out everywhere, or erase an account for its owner. Each call leaves an audit line with its reason."""


@accounts.command()
def revoke(
    reason: Reason,
    users: Annotated[list[str] | None, typer.Argument(metavar="USER…", help="Handles or user ids.")] = None,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="All users there are, in the order of their ids.")
    ] = False,
    after: Annotated[str, typer.Option(metavar="ID", help="With --everyone: go on behind this user.")] = "",
    rate: Annotated[float, typer.Option(min=0.1, help="Users per second: each of them logs in again.")] = 100.0,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    api_admin: ApiAdmin = None,
    json: Json = False,
) -> None:
    """End every access and refresh token of these users and close their sockets (4403): they have to log in again.

    Doing it twice is harmless. Ctrl-C stops before the next page. Exit code 1 if somebody is unknown.

    \b
    Examples:
      nearby accounts revoke ann ben --reason "phones stolen"
      nearby accounts revoke --everyone --rate 50 --reason "refresh tokens leaked"
    """  # noqa: D301 - the backspace tells click to keep the lines
    if bool(users) == everyone:
        raise typer.BadParameter("name users, or --everyone")
    with _told(), open_api_port(data_dir, api_admin, reason, os.environ) as api:
        pages = _everyone(api, after, rate) if everyone else _named(api, users or [], rate)
        revoked_count, unknown = _count(pages, quiet=json)
    if json:
        typer.echo(json_format.dumps({"revoked": revoked_count, "unknown": unknown}))
    else:
        typer.echo(f"{revoked_count:,} users are logged out everywhere")
        for name in unknown:
            typer.echo(f"there is no {name}", err=True)
    raise typer.Exit(1 if unknown else 0)


@accounts.command()
def erase(
    user: Annotated[str, typer.Argument(help="A handle or a user id.")],
    reason: Reason,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    api_admin: ApiAdmin = None,
    json: Json = False,
) -> None:
    """Erase an account and everything about it, as its owner may by `DELETE /v1/me`. There is no way back."""
    with _told(), open_api_port(data_dir, api_admin, reason, os.environ) as api:
        _print_state(api.erase(user), json=json)


@accounts.command()
def erasure(
    user: Annotated[str, typer.Argument(help="A handle or a user id; of somebody who is gone, the id.")],
    reason: Reason = "following an erasure",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    api_admin: ApiAdmin = None,
    json: Json = False,
) -> None:
    """Tell whether an account exists and what is still to be deleted. Exit code 3 while anything is."""
    with _told(), open_api_port(data_dir, api_admin, reason, os.environ) as api:
        state = api.erasure(user)
    _print_state(state, json=json)
    raise typer.Exit(3 if state["pending"] else 0)


def _named(api: ApiPort, users: list[str], rate: float) -> Iterator[dict[str, Any]]:
    size = _page_size(rate)
    for start in range(0, len(users), size):
        due_s = time.monotonic() + size / rate
        yield api.revoke({"users": users[start : start + size]})
        if start + size < len(users):
            _sleep_until(due_s)


def _everyone(api: ApiPort, after: str, rate: float) -> Iterator[dict[str, Any]]:
    size = _page_size(rate)
    next_id: str | None = after
    while next_id is not None:
        due_s = time.monotonic() + size / rate
        page = api.revoke({"after": next_id, "count": size})
        yield page
        next_id = page["next"]
        if next_id is not None:
            _sleep_until(due_s)


def _page_size(rate: float) -> int:
    """Return how many people to ask for at once: about a second's worth."""
    return max(1, min(PAGE, round(rate)))


def _sleep_until(due_s: float) -> None:
    time.sleep(max(0.0, due_s - time.monotonic()))


def _count(pages: Iterator[dict[str, Any]], *, quiet: bool) -> tuple[int, list[str]]:
    """Return how many were logged out, and the names of nobody; after Ctrl-C say where to go on."""
    revoked_count, unknown, next_id = 0, list[str](), None
    try:
        for page in pages:
            revoked_count += page["revoked"]
            unknown += page["unknown"]
            next_id = page["next"]
            if next_id is not None and not quiet:
                typer.echo(f"{revoked_count:,} so far, up to {next_id}", err=True)
    except KeyboardInterrupt as error:
        go_on = f"; go on with --after {next_id}" if next_id else ""
        typer.echo(f"stopped after {revoked_count:,} users{go_on}", err=True)
        raise typer.Exit(_INTERRUPTED) from error
    return revoked_count, unknown


def _print_state(state: dict[str, Any], *, json: bool) -> None:
    if json:
        typer.echo(json_format.dumps(state))
        return
    typer.echo(f"{state['user_id']}: the account {'exists' if state['exists'] else 'does not exist'}")
    for waiting in state["pending"]:
        typer.echo(f"  {waiting['kind']} waits to be finished for {waiting['age_s']} s, {waiting['attempts']} attempts")
    if not state["pending"]:
        typer.echo("  nothing waits to be deleted")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell errors of ours in one line: exit code 2 for what the caller must change first, else 1."""
    try:
        yield
    except NearbyError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, ApiNotFound) else 1) from error
