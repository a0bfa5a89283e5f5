"""A real prober for the length of a test."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.loopback import own_host, own_port
from tests.support.stack import Stack

PASSWORD = "the password of synthetic friends"


@asynccontextmanager
async def running_prober(stack: Stack, log: Path, environ: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """Probe the gateways of ``stack``; yield ``HOST:PORT`` of the prober's metrics, which may not answer yet."""
    host, port = own_host(), own_port()
    settings = {
        "NEARBY_API_URL": stack.api_url,
        "NEARBY_PROBER_GATEWAYS": ",".join(gateway.ws_url for gateway in stack.gateways),
        "NEARBY_PROBER_PASSWORD": PASSWORD,
        "NEARBY_PROBER_INTERVAL_S": "0.5",
        "NEARBY_HOST": host,
        "NEARBY_ADMIN_PORT": str(port),
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "prober"),
            env={**os.environ, **settings, **(environ or {})},
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield f"{host}:{port}"
        assert process.returncode is None, log.read_text()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    assert process.returncode == 0, log.read_text()
