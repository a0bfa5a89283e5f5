"""How every connection is made."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from nearby.redis_address import Credentials, RedisAddress

SOCKET_TIMEOUT_S = 2.0
"""The bound of one answer, and of one attempt to connect."""
MAX_CONNECTIONS = 16
"""Calls beyond this many wait for a connection, for :data:`SOCKET_TIMEOUT_S` at most."""


def connection_options(address: RedisAddress, credentials: Credentials, timeout_s: float) -> dict[str, Any]:
    """Return the driver's options for TCP connections to servers of ``address``; each answer within ``timeout_s``."""
    return {
        "username": credentials.username,
        "password": credentials.password,
        "protocol": 3,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        # An outage is told at once: callers have their own way to live with it.
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,  # naming the client to the server looks its version up on disk
        **(address.tls or {}),
    }


def server_options(address: RedisAddress, max_connections: int) -> dict[str, Any]:
    """Return the driver's options for a pool of connections to the server of ``address``."""
    options = connection_options(address, address.credentials, SOCKET_TIMEOUT_S)
    options |= {"db": address.database, **pool_options(max_connections)}
    if address.path:
        return {**options, "connection_class": UnixDomainSocketConnection, "path": address.path}
    host, port = address.nodes[0]
    secure = SSLConnection if address.tls is not None else Connection
    return {**options, "connection_class": secure, "host": host, "port": port}


def pool_options(max_connections: int) -> dict[str, Any]:
    """Return the driver's options for a pool that makes callers wait for a connection."""
    return {
        "max_connections": max_connections,
        "timeout": SOCKET_TIMEOUT_S,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
