"""HAProxy and nginx as they come from Debian, run with the configurations of ``deploy/`` and other addresses."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.support.eventually import eventually
from tests.support.stack import Stack

DEPLOY = Path(__file__).parents[2] / "deploy"
INSTALL = "apt-get install haproxy nginx-light"
PUBLIC = "10.0.0.2:80"
MAX_CONNECTIONS = 2_000

Changes = Mapping[str, str]
"""What to put in place of what in a configuration, besides the addresses; each must be there."""


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """A running one. ``stats`` is HAProxy's Unix socket."""

    name: str
    url: str
    directory: Path

    @property
    def ws_url(self) -> str:
        return f"{self.url.replace('http', 'ws')}/v1/ws"

    @property
    def stats(self) -> Path:
        return self.directory / "stats"

    async def states(self) -> dict[str, str]:
        """Return HAProxy's view of the gateways: UP, DOWN, or on the way, by name."""
        reader, writer = await asyncio.open_unix_connection(str(self.stats))
        writer.write(b"show stat gateways 4 -1\n")
        async with asyncio.timeout(5):
            text = (await reader.read()).decode()
        writer.close()
        rows = [line.split(",") for line in text.splitlines() if line]
        column = rows[0].index("status")
        return {row[1]: row[column] for row in rows[1:]}


@asynccontextmanager
async def running(
    name: str, stack: Stack, directory: Path, changes: Changes | None = None
) -> AsyncIterator[LoadBalancer]:
    """Run ``haproxy`` or ``nginx`` in front of ``stack``, of three gateways, until the context ends.

    Raises:
        AssertionError: it is not installed.
        RuntimeError: it does not start; quotes what it said.
    """
    program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, f"{name} is missing; install it: {INSTALL}"
    port = free_port()
    directory.mkdir(exist_ok=True)
    config = directory / f"{name}.conf"
    config.write_text(_config(name, stack, port, directory, changes or {}))
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *_command(name, program, config, directory), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
    balancer = LoadBalancer(name, f"http://127.0.0.1:{port}", directory)
    try:
        await eventually(lambda: _answers(balancer, process, directory / "log"), within_s=15)
        yield balancer
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(10):
            await process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _command(name: str, program: str, config: Path, directory: Path) -> list[str]:
    if name == "haproxy":
        return [program, "-db", "-f", str(config)]
    # Its workers change to another user, who may not enter our directory.
    user = " user root;" if os.getuid() == 0 else ""
    directives = f"daemon off; pid {directory}/pid;{user}"
    return [program, "-p", str(directory), "-e", "stderr", "-c", str(config), "-g", directives]


def _config(name: str, stack: Stack, port: int, directory: Path, changes: Changes) -> str:
    """Return the configuration of ``deploy/`` with our addresses and what a test machine needs."""
    if name == "haproxy":
        text = (DEPLOY / "haproxy.cfg").read_text()
        ours = {"    maxconn 200000": f"    maxconn {MAX_CONNECTIONS}\n    stats socket {directory}/stats"}
    else:
        text = (DEPLOY / "nginx.conf").read_text()
        folders = "".join(f" {kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        ours = {
            "worker_rlimit_nofile 200000;": "",
            "worker_connections 65536;": f"worker_connections {MAX_CONNECTIONS};",
            "http {\n": f"http {{\n    access_log off;{folders}\n",
        }
    addresses = {f"10.0.0.1{number}:8081": gateway for number, gateway in _gateways(stack).items()}
    api = urlsplit(stack.api_url).netloc
    addresses |= {"10.0.0.21:8080": api, "10.0.0.22:8080": api, PUBLIC: f"127.0.0.1:{port}"}
    for old, new in {**ours, **addresses, **changes}.items():
        assert old in text, f"{old!r} is not in the configuration of {name}"
        text = text.replace(old, new)
    return _with_admin_ports(text, stack) if name == "haproxy" else text


def _gateways(stack: Stack) -> dict[int, str]:
    assert len(stack.gateways) == 3
    return {number: urlsplit(gateway.ws_url).netloc for number, gateway in enumerate(stack.gateways, start=1)}


def _with_admin_ports(text: str, stack: Stack) -> str:
    ports = {gateway.id: urlsplit(gateway.admin_url).port for gateway in stack.gateways}
    ports |= dict.fromkeys(("api-1", "api-2"), urlsplit(stack.api_admin_url).port)

    def with_port(match: re.Match[str]) -> str:
        return f"{match[1]}{ports[match[2]]}"

    text, count = re.subn(r"(server (\S+) \S+ check port )\d+", with_port, text)
    assert count == len(ports)
    return text


async def _answers(balancer: LoadBalancer, process: asyncio.subprocess.Process, log: Path) -> bool:
    if process.returncode is not None:
        raise RuntimeError(f"{balancer.name} ended with {process.returncode}: {log.read_text()}")
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            return (await http.get(f"{balancer.url}/openapi.json")).status_code == 200
        except httpx.TransportError:
            return False
