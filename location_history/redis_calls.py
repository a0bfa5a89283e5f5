"""Connections to the servers of the history streams, and calls that end in time."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from redis.asyncio import Redis

from nearby.redis_address import parse
from redis_topology import answering as bounded
from redis_topology.options import MAX_CONNECTIONS
from redis_topology.servers import open_client


def client(url: str, max_connections: int = MAX_CONNECTIONS) -> Redis:
    """Return a client of the server at ``url``, which returns entries as they come. Nothing is opened yet.

    Raises:
        ValueError: ``url`` is no address of a server, or that of a Cluster.
    """
    opened = open_client(parse(url), max_connections)
    for command in ("XRANGE", "XREADGROUP", "XCLAIM"):
        # The driver would make a mapping of each entry's fields.
        opened.set_response_callback(command, cast(Any, _as_it_came))
    return opened


def _as_it_came(reply: Any, **_: Any) -> Any:
    return reply


def answering() -> AbstractAsyncContextManager[None]:
    """Bound a call and turn what the driver raises into ``StoreUnavailable``."""
    return bounded.answering("history_stream")
