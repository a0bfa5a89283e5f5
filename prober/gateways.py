"""Where the gateways are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit


async def resolved(urls: Sequence[str]) -> list[str]:
    """Return the URL of each gateway behind ``urls``, in order, without doubles.

    The name in a ``ws://`` URL may stand for many: those of a headless Service, each of whose addresses is a gateway.
    One in a ``wss://`` URL stays, for its certificate's sake. A name that cannot be resolved stays, too, and so shows
    as a gateway that nobody can connect to.
    """
    found: dict[str, None] = {}
    for url in urls:
        for each in sorted(await _addresses(url)) if urlsplit(url).scheme == "ws" else [url]:
            found[each] = None
    return list(found)


async def _addresses(url: str) -> list[str]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    port = parts.port or 80
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError:
        return [url]
    hosts = {str(address[0]) for _, _, _, _, address in answers}
    return [
        urlunsplit(parts._replace(netloc=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")) for host in hosts
    ]
