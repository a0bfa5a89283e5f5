"""The lines that ``nearby up`` writes to its terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from cli.up.errors import ProcessFailed, tail
from cli.up.plan import Kind, ProcessSpec
from cli.up.stack_file import Running
from nearby.errors import NearbyError


def say(line: str) -> None:
    """Write one line at once."""
    typer.echo(line)


def complain(error: NearbyError) -> None:
    """Write an error in one line, and the end of the log of a process that failed."""
    typer.echo(f"error: {error}", err=True)
    if isinstance(error, ProcessFailed) and error.log is not None:
        typer.echo(f"The end of {error.log}:", err=True)
        for line in tail(error.log):
            typer.echo(f"    {line}", err=True)


def process_line(process: Running) -> str:
    """Return the line of a process that is ready."""
    spec = process.spec
    address = process.url or spec.address
    return f"  {spec.name:<10}{spec.kind.value:<26}{address}  (pid {process.pid})"


def ready_lines(running: Sequence[Running], data_dir: Path, took_s: float) -> list[str]:
    """Return what a newcomer needs once everything is ready: the URLs, and something to try."""
    api = next(process for process in running if process.spec.kind is Kind.API)
    gateways = [process for process in running if process.spec.kind is Kind.GATEWAY]
    api_url = api.url or api.spec.address
    json = "-H 'content-type: application/json' -d"
    return [
        "",
        f"nearby is ready after {took_s:.1f} s; Ctrl-C stops it. Data and logs: {data_dir}",
        f"  API        {api_url}  (described at {api_url}/openapi.json)",
        f"  WebSocket  {', '.join(gateway.url or gateway.spec.address for gateway in gateways)}",
        "",
        "Try this:",
        f"  curl {api_url}/v1/users {json} "
        """'{"handle":"ann","password":"correct horse","display_name":"Ann"}'""",
        f"""  curl {api_url}/v1/tokens {json} '{{"handle":"ann","password":"correct horse"}}'""",
        f"  curl {api_url}/v1/gateway -H 'authorization: Bearer ACCESS_TOKEN'",
        "",
    ]


def settings_lines(specs: Sequence[ProcessSpec], settings: Sequence[Sequence[str]]) -> list[str]:
    """Return the variables of each process under a heading, in a form that a shell can read."""
    lines = ["# Secrets are masked. Port 0 is any free port, chosen at the start."]
    for spec, variables in zip(specs, settings, strict=True):
        if variables:
            lines += ["", f"# {spec.kind.value} {spec.name}: {' '.join(spec.argv)}", *variables]
    return lines
