"""A real ``nearby up``, with all its processes, for the length of a test."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.eventually import eventually

ANY_PORTS = ("--api-port", "0", "--gateway-ports", "0,0", "--shards", "2", "--ephemeral")
START_TIMEOUT_S = 90.0
"""More than `nearby up` gives its processes, so that its own word on what is missing is heard."""
STOP_TIMEOUT_S = 45.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway of a stack."""

    id: str
    ws_url: str
    admin_url: str
    pid: int


class Stack:
    """A running ``nearby up``. What may change with a restart is read anew each time."""

    def __init__(self, process: asyncio.subprocess.Process, data_dir: Path, output: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        self._output = output

    @property
    def document(self) -> dict[str, Any]:
        """``stack.json`` as it is now."""
        document: dict[str, Any] = json.loads((self.data_dir / "stack.json").read_text())
        return document

    @property
    def api_url(self) -> str:
        return str(self.document["api_url"])

    @property
    def api_admin_url(self) -> str:
        return str(self.document["api_admin_url"])

    @property
    def admin_token(self) -> str:
        return str(self.document["admin_token"])

    @property
    def gateways(self) -> list[Gateway]:
        return [Gateway(**gateway) for gateway in self.document["gateways"]]

    @property
    def shard_urls(self) -> dict[str, str]:
        """Addresses by slot."""
        return {shard["slot"]: shard["address"] for shard in self.document["shards"]}

    @property
    def cache_url(self) -> str:
        return str(self.document["cache"]["address"])

    @property
    def history_writer_admin_url(self) -> str:
        return str(self.document["history_writer"]["admin_url"])

    @property
    def ring_keeper_admin_url(self) -> str:
        return str(self.document["ring_keeper"]["admin_url"])

    @property
    def spare_urls(self) -> dict[str, str]:
        """Addresses of the servers that were started as spares, by name."""
        return {spare["name"]: spare["address"] for spare in self.document["spares"]}

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name: ``shard-1``, ``spare-1``, ``cache``, ``api``, ``writer-1``, ``keeper-1``, ``gw-1`` …"""
        document = self.document
        return {
            **{shard["slot"]: shard["pid"] for shard in document["shards"]},
            **{spare["name"]: spare["pid"] for spare in document["spares"]},
            document["ring_keeper"]["id"]: document["ring_keeper"]["pid"],
            "cache": document["cache"]["pid"],
            "api": document["api_pid"],
            "writer-1": document["history_writer"]["pid"],
            **{gateway["id"]: gateway["pid"] for gateway in document["gateways"]},
        }

    @property
    def output(self) -> str:
        """Everything that ``nearby up`` has written to its terminal."""
        return self._output.read_text()

    def log(self, name: str) -> str:
        """Everything that process ``name`` has written."""
        return (self.data_dir / "logs" / f"{name}.log").read_text()

    def kill(self, name: str, signum: signal.Signals = signal.SIGKILL) -> int:
        """Send ``signum`` to process ``name`` and return its pid; SIGSTOP freezes it and SIGCONT thaws it."""
        pid = self.pids[name]
        os.kill(pid, signum)
        return pid

    async def restarted(self, name: str, old_pid: int, within_s: float = 20.0) -> int:
        """Wait until process ``name`` is another one than ``old_pid``; return its pid."""
        await eventually(lambda: self.pids[name] != old_pid, within_s)
        return self.pids[name]

    async def says(self, text: str, within_s: float = 10.0) -> None:
        """Wait until the terminal shows ``text``."""
        await eventually(lambda: text in self.output, within_s)

    async def stop(self, signum: signal.Signals = signal.SIGINT) -> int:
        """Stop everything and return the exit status of ``nearby up``. Idempotent."""
        if self.process.returncode is None:
            self.process.send_signal(signum)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise


async def start_up(data_dir: Path, output: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> Stack:
    """Start ``nearby up`` and do not wait for anything; the caller stops it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NEARBY_")}
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", "up", "--data-dir", str(data_dir), *arguments),
            env={**clean, **environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    return Stack(process, data_dir, output)


@asynccontextmanager
async def running_stack(
    directory: Path, environ: Mapping[str, str] | None = None, arguments: Sequence[str] = ANY_PORTS
) -> AsyncIterator[Stack]:
    """Start a stack in ``directory``, wait until it is ready, and stop it at the end whatever happens.

    ``environ`` adds ``NEARBY_…`` settings. Data and logs are in ``directory / "data"``.

    Raises:
        AssertionError: it did not start; quotes what it said.
    """
    stack = await start_up(directory / "data", directory / "up.log", arguments, environ or {})
    try:
        await eventually(lambda: stack.process.returncode is not None or _is_ready(stack), START_TIMEOUT_S)
        assert stack.process.returncode is None, f"nearby up ended with {stack.process.returncode}:\n{stack.output}"
        yield stack
    finally:
        await stack.stop()


def _is_ready(stack: Stack) -> bool:
    # A stack that was killed leaves its file behind.
    return (stack.data_dir / "stack.json").exists() and stack.document["pid"] == stack.process.pid
