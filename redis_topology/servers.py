"""What a location cache needs of its servers, whichever way they stand to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ReadOnlyError

from nearby.redis_address import RedisAddress, Topology
from redis_topology.options import MAX_CONNECTIONS, server_options
from redis_topology.sentinel import PrimaryPool


class Command(NamedTuple):
    """A command as its words, and the key by which it finds its server; all its keys have the same hash tag."""

    key: bytes
    words: tuple[bytes | str | int, ...]


class Servers(Protocol):
    """Runs commands where their keys live. ``clustered`` if keys in one command must share a hash tag."""

    clustered: bool

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Run ``commands`` and return their answers in order, an error of a server as the exception it is.

        Raises:
            RedisError, OSError: some, all or none were run.
        """

    async def times_us(self) -> list[int]:
        """Return the clock of each server that takes writes, Unix microseconds.

        Raises:
            RedisError, OSError: none answered.
        """

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""


class OneServer:
    """The port :class:`Servers` on one server, or on the primary that Sentinels name."""

    clustered = False

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Run ``commands`` in their order in one pipeline; see the port."""
        async with self.client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command.words)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        if any(isinstance(answer, ReadOnlyError) for answer in answers):
            # A standby now. The name may lead to another server already, and an open connection would never notice.
            await self.client.connection_pool.disconnect(inuse_connections=False)
        return answers

    async def times_us(self) -> list[int]:
        """Return the server's clock; see the port."""
        seconds, microseconds = await self.client.time()
        return [int(seconds) * 1_000_000 + int(microseconds)]

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        await self.client.aclose()


def open_client(address: RedisAddress, max_connections: int = MAX_CONNECTIONS) -> Redis:
    """Return the driver's client of one server, or of the primary that Sentinels name. It connects when used.

    Calls beyond ``max_connections`` wait for a connection.

    Raises:
        ValueError: the address is that of a Cluster, where a client is more than one connection.
    """
    if address.topology is Topology.CLUSTER:
        raise ValueError("not on a Cluster")
    if address.topology is Topology.SENTINEL:
        return Redis.from_pool(PrimaryPool(address, max_connections))
    return Redis.from_pool(BlockingConnectionPool(**server_options(address, max_connections)))
