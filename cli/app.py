"""The ``nearby`` command and its subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.accounts.command import accounts
from cli.capacity.command import capacity
from cli.drain.command import drain
from cli.explain.command import explain
from cli.gateways.command import gateways
from cli.history.command import history
from cli.keys.command import keys
from cli.ring.command import ring
from cli.simulate.command import simulate
from cli.up.command import up
from nearby import __version__

main = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
"""The console script. Each subcommand lives in a folder of its own."""

_SIMULATE_EXAMPLES = """\b
Examples:
  nearby simulate --users 200 --friends 40   a crowd in the stack whose API is on port 8080, for a minute
  nearby simulate --seconds 0                the same until Ctrl-C
  nearby simulate --data-dir .nearby --interval 1 --json
                                             one report a second; a summary as JSON
  nearby simulate --tracks walkers.csv --speedup 120
                                             real walkers, two hours a minute
"""

_GATEWAYS_EXAMPLES = """\b
Examples:
  nearby gateways                            those of the stack in .nearby/
  NEARBY_ADMIN_TOKEN=… nearby gateways --admin http://10.0.0.11:9081 --admin http://10.0.0.12:9081 --json
"""

_DRAIN_EXAMPLES = """\b
Examples:
  nearby drain gw-1 --reason "new kernel"    send its clients away at the gateway's own rate, within 120 s
  nearby drain gw-1 gw-2 --rate 500 --deadline 5m
                                             no client of one is sent to the other
  nearby drain gw-1 --cancel                 back into service, if nobody has been sent away yet
  nearby drain --status --json               what all of them are doing
"""

_CAPACITY_EXAMPLES = """\b
Examples:
  nearby capacity                            the load this is designed for: 100 million users
  nearby capacity --users 10k                a town: one server carries it
  nearby capacity --users 2M --friends 120 --friends-connected 0.25 --area 20
                                             two million people with scattered friends, some of whom are connected
  nearby capacity --users 1M --interval 10 --json | jq '.roles[] | {name, count}'
  nearby capacity --constants                the measured figures behind it
"""

_EXPLAIN_EXAMPLES = """\b
Examples:
  nearby explain ann ben --reason "ticket 4711"
                                             in the stack in .nearby/
  NEARBY_ADMIN_TOKEN=… nearby explain ann ben --api-admin http://10.0.0.7:9080 --admin http://10.0.0.11:9081 --json
"""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nearby {__version__}")
        raise typer.Exit


@main.callback()
def nearby(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Nearby friends in real time: who of my friends is near, how far away, and since when.

    \b
    Begin here:
      nearby up                  start everything on this machine
      nearby up --simulate       … with a crowd in it
      nearby simulate --help     let people walk through a stack that runs already
      nearby ring show           the pub/sub servers, and how to add, remove or replace one
      nearby history lag         what waits to be stored in the history
      nearby gateways            what the gateways are doing
      nearby drain --help        take one out of service
      nearby explain --help      why somebody does not see a friend
      nearby keys --help         rotate the keys of access tokens
      nearby accounts --help     log people out everywhere, erase an account
      nearby capacity            how many servers a number of users takes
    """  # noqa: D301 - the backspace tells click to keep the lines


main.command()(up)
main.command(epilog=_SIMULATE_EXAMPLES)(simulate)
main.add_typer(ring, name="ring")
main.add_typer(history, name="history")
main.add_typer(keys, name="keys")
main.add_typer(accounts, name="accounts")
main.command(epilog=_GATEWAYS_EXAMPLES)(gateways)
main.command(epilog=_DRAIN_EXAMPLES)(drain)
main.command(epilog=_EXPLAIN_EXAMPLES)(explain)
main.command(epilog=_CAPACITY_EXAMPLES)(capacity)
