"""The API as a process of its own, on real stores, with a ring to publish on and a gateway to name."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from discovery.connect import open_discovery
from nearby.ports import Discovery, Member, MemberState, RingState, Role
from nearby.settings import RateSettings, variables
from tests.api.stack import SERVICE_TOKEN
from tests.support.valkey import ValkeyServer

START_TIMEOUT_S = 60
NO_RATE_LIMITS = {variable.name: "0" for variable in variables(RateSettings) if variable.default}


@dataclass(frozen=True)
class RunningApi:
    url: str
    internal_url: str
    log: Path
    pid: int


def environment(directory: Path, database_url: str, valkey: ValkeyServer) -> dict[str, str]:
    """The settings of an API whose files are in ``directory``."""
    return {
        "PATH": os.environ["PATH"],
        "NEARBY_DISCOVERY": f"file://{directory / 'discovery'}",
        "NEARBY_CACHE_URL": valkey.url,
        "NEARBY_HISTORY_STREAM_URL": valkey.url,
        "NEARBY_HISTORY_URL": f"sqlite:///{directory / 'history.db'}",
        "NEARBY_DATABASE_URL": database_url,
        "NEARBY_PORT": "0",
        "NEARBY_TOKEN_KEYS": "k1=MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=",
        "NEARBY_SERVICE_TOKEN": SERVICE_TOKEN.value,
        "NEARBY_ADMIN_TOKEN": "admin-token-of-tests",
    }


async def member_of_the_api(discovery: Discovery) -> Member:
    """Wait until an API has announced itself."""
    async with asyncio.timeout(START_TIMEOUT_S):
        async for members in discovery.watch_members(Role.API):
            for member in members.values():
                return member
    raise AssertionError("the watch ended")


@asynccontextmanager
async def running_api(
    directory: Path, database_url: str, valkey: ValkeyServer, settings: Mapping[str, str]
) -> AsyncIterator[RunningApi]:
    """Run an API with ``settings`` besides those of :func:`environment` for the length of the context."""
    environ = {**environment(directory, database_url, valkey), **settings}
    log = directory / "api.log"
    async with open_discovery(environ["NEARBY_DISCOVERY"]) as discovery:
        await discovery.write_ring(RingState(1, {"shard-1": valkey.url}), expected=None)
        gateway = Member(Role.GATEWAY, "gw-1", MemberState.SERVING, url="ws://127.0.0.1:1/v1/ws")
        async with discovery.register(gateway), _process(environ, log):
            member = await member_of_the_api(discovery)
            yield RunningApi(member.url, member.details["internal_url"], log, member.pid)


@asynccontextmanager
async def _process(environ: Mapping[str, str], log: Path) -> AsyncIterator[Process]:
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "api", env=environ, stderr=file)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
