"""``nearby keys …`` on the command line. No key is ever shown, but in the new value where that is asked for."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from cli.keys.rotation import RotationRefused, added, kids, removed, signing
from cli.up.data_dir import DEFAULT_DATA_DIR
from cli.up.private_file import write_private_json
from nearby.errors import NearbyError

VARIABLE = "NEARBY_TOKEN_KEYS"
_KEY_BYTES = 32

Kid = Annotated[str, typer.Argument(metavar="KID", help="The name of a key, such as k2.")]
DataDir = Annotated[
    Path, typer.Option(help="Change the secrets.json of this `nearby up`.", show_default=str(DEFAULT_DATA_DIR))
]
Stdin = Annotated[
    bool,
    typer.Option("--stdin", help=f"Read the value of {VARIABLE} and write the new one, for a store of your own."),
]

keys = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
"""The subcommands of ``nearby keys``."""


@keys.callback()
def _keys() -> None:
    """Rotate the keys that sign access tokens. Each step takes effect where processes are started anew with it.

    \b
    Nobody is logged out by:
      nearby keys add k2          then restart gateways and APIs: all of them verify k2
      nearby keys sign-with k2    then restart the APIs: new tokens are signed by k2
      nearby keys remove k1       an access token's lifetime later; then restart gateways and APIs
    """  # noqa: D301 - the backspace tells click to keep the lines


@keys.command("list")
def list_(data_dir: DataDir = DEFAULT_DATA_DIR, stdin: Stdin = False) -> None:
    """List the names of the keys, and which of them signs."""
    with _told():
        names = kids(sys.stdin.read().strip() if stdin else _read(data_dir)[VARIABLE])
    for name in names:
        typer.echo(f"{name}  {'signs and verifies' if name == names[0] else 'verifies'}")


@keys.command()
def add(kid: Kid, data_dir: DataDir = DEFAULT_DATA_DIR, stdin: Stdin = False) -> None:
    """Make a new key that verifies and does not sign yet."""
    new = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
    _change(lambda value: added(value, kid, new), data_dir, stdin=stdin)


@keys.command()
def sign_with(kid: Kid, data_dir: DataDir = DEFAULT_DATA_DIR, stdin: Stdin = False) -> None:
    """Let a key that every gateway and API has sign from now on."""
    _change(lambda value: signing(value, kid), data_dir, stdin=stdin)


@keys.command()
def remove(kid: Kid, data_dir: DataDir = DEFAULT_DATA_DIR, stdin: Stdin = False) -> None:
    """Take a key away: access tokens that it signed are refused, and clients refresh them."""
    _change(lambda value: removed(value, kid), data_dir, stdin=stdin)


def _change(step: Callable[[str], str], data_dir: Path, *, stdin: bool) -> None:
    with _told():
        if stdin:
            typer.echo(step(sys.stdin.read().strip()))
            return
        kept = _read(data_dir)
        value = step(kept[VARIABLE])
        write_private_json(_path(data_dir), {**kept, VARIABLE: value})
    signer, *others = kids(value)
    typer.echo(f"{signer} signs{'; ' if others else ''}{', '.join(others)}{' verify too' if others else ''}")


def _read(data_dir: Path) -> dict[str, str]:
    try:
        kept: dict[str, str] = json.loads(_path(data_dir).read_text(encoding="utf-8"))
        kids(kept[VARIABLE])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RotationRefused(f"there are no keys in {_path(data_dir)}; name --data-dir, or use --stdin") from error
    return kept


def _path(data_dir: Path) -> Path:
    return data_dir / "secrets.json"


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell errors of ours in one line, exit code 1."""
    try:
        yield
    except NearbyError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
