"""Serve an ASGI application inside a running event loop, for the length of an async context."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

STOP_TIMEOUT_S = 3
"""How long requests in progress may take to finish once the port closes."""


class _Server(uvicorn.Server):
    """uvicorn as one task among others: signals belong to the process, and starting is an event."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening-to-be socket bound to ``host`` and ``port``; port 0 takes any free one.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    sock.setblocking(False)
    return sock


@asynccontextmanager
async def serve(app: ASGIApp, host: str, port: int) -> AsyncIterator[str]:
    """Serve ``app`` and yield its base URL, ``http://HOST:PORT``; port 0 takes any free one.

    On leaving, requests in progress get :data:`STOP_TIMEOUT_S` to finish.

    Raises:
        OSError: the port is taken.
    """
    sock = listen(host, port)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="off",
        server_header=False,
        # Who sends a request is what http_port.addresses says: only the proxies in our settings are believed.
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
        ws="none",
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.serve(sockets=[sock]), name=f"http {host}:{port}")
        await server.listening.wait()
        shown = f"[{host}]" if ":" in host else host
        try:
            yield f"http://{shown}:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(running)
            sock.close()
