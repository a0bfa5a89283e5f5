"""The primaries of a Cluster, each asked for the keys it holds.

The driver's own cluster client closes every connection when one node fails, asks for a redirection on another
connection than the one it then uses, and raises where all connections are in use. So only its map of the nodes and
their connections are used here. Invariants:

* What a failing node leaves behind is its own: other nodes' calls in flight go on.
* After a failure, or a call that was cancelled while a node had not answered, the map is read anew before the next
  call, and not from that node if there is another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.cluster import ClusterNode, NodesManager, PipelineCommand
from redis.cluster import get_node_name
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    ConnectionError,  # noqa: A004 - the driver's own, no OSError
    MovedError,
    RedisClusterException,
    TimeoutError,  # noqa: A004
    TryAgainError,
)

from nearby.redis_address import RedisAddress
from redis_topology.options import MAX_CONNECTIONS, SOCKET_TIMEOUT_S, connection_options
from redis_topology.servers import Command

MAX_REDIRECTIONS = 5
TRY_AGAIN_S = 0.05
_NOT_READ = ""
"""Stands for no node: the map is to be read, whoever is asked."""


@dataclass(slots=True, eq=False)
class _Errand:
    """A command on its way to the node that holds its key; ``asking`` if that is so only for this one time."""

    command: Command
    slot: int
    node: ClusterNode | None = None
    asking: bool = False
    answer: Any = field(default=None, repr=False)


class ClusterServers:
    """The port :class:`redis_topology.servers.Servers` on a Cluster. At most :data:`MAX_CONNECTIONS` calls at once."""

    clustered = True

    def __init__(self, address: RedisAddress) -> None:
        options = connection_options(address, address.credentials, SOCKET_TIMEOUT_S)
        options |= {
            "connection_class": SSLConnection if address.tls is not None else Connection,
            "max_connections": 2 * MAX_CONNECTIONS,
        }
        self._options = options
        self._given = {get_node_name(host, port) for host, port in address.nodes}
        # Where some slots have no node, the others are served all the same.
        self._map = NodesManager(
            [self._new_node(*given) for given in address.nodes],
            require_full_coverage=False,
            connection_kwargs=options,
            dynamic_startup_nodes=False,
        )
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)
        self._reading_map = asyncio.Lock()
        self._doubts = {_NOT_READ}
        """Nodes that gave reason to read the map anew."""

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Run each command where its key lives; commands of one node in their order. See the port."""
        errands = [_Errand(command, key_slot(command.key)) for command in commands]
        async with self._turns:
            await self._know_map()
            waiting = errands
            for _ in range(MAX_REDIRECTIONS):
                await self._send(waiting)
                waiting = await self._redirected(waiting)
                if not waiting:
                    return [errand.answer for errand in errands]
        raise ClusterError(f"still sent elsewhere after {MAX_REDIRECTIONS} redirections")

    async def times_us(self) -> list[int]:
        """Return the clock of each primary that answers, Unix microseconds."""
        async with self._turns:
            await self._know_map()
            primaries = {id(nodes[0]): nodes[0] for nodes in self._map.slots_cache.values()}
            asked = [PipelineCommand(0, "TIME") for _ in primaries]
            pairs = zip(primaries.values(), asked, strict=True)
            await asyncio.gather(*(self._ask(node, [each]) for node, each in pairs), return_exceptions=True)
        times = [each.result for each in asked if isinstance(each.result, list)]
        if not times:
            raise ClusterError("no primary tells its time")
        return [int(seconds) * 1_000_000 + int(microseconds) for seconds, microseconds in times]

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        self._doubts.add(_NOT_READ)
        await self._map.aclose()
        await self._map.aclose("startup_nodes")
        # Connections of nodes that have left the Cluster.
        await asyncio.gather(*self._map._background_tasks, return_exceptions=True)  # noqa: SLF001 - nobody else waits

    def _new_node(self, host: str, port: int) -> ClusterNode:
        return ClusterNode(host, port, **self._options)

    async def _know_map(self) -> None:
        if not self._doubts:
            return
        async with self._reading_map:
            if not self._doubts:
                return  # whoever waited with us has read it
            doubts = set(self._doubts)
            await self._read_map(next(iter(doubts)))
            self._doubts -= doubts
            await self._note_whom_to_ask()

    async def _note_whom_to_ask(self) -> None:
        """Let the nodes given and those of now tell the next map.

        Those given stay: they may be names that lead elsewhere one day, when no node known now is left.
        """
        asked, present = self._map.startup_nodes, self._map.nodes_cache
        for name in asked.keys() - present.keys() - self._given:
            await asked.pop(name).disconnect()
        for name, node in present.items():
            if name not in asked:
                asked[name] = self._new_node(node.host, int(node.port))

    async def _read_map(self, asked_last: str) -> None:
        try:
            await self._map.initialize(last_failed_node_name=asked_last)
        except RedisClusterException as error:  # no RedisError, for once
            raise ClusterError(str(error)) from error
        except LookupError as error:
            raise ClusterError("a Cluster without primaries") from error

    async def _send(self, errands: Sequence[_Errand]) -> None:
        """Fill in the answers, errors of servers among them."""
        batches: dict[int, tuple[ClusterNode, list[PipelineCommand]]] = {}
        sent: list[tuple[_Errand, PipelineCommand]] = []
        for errand in errands:
            node = errand.node or self._owner(errand.slot)
            _, batch = batches.setdefault(id(node), (node, []))
            if errand.asking:
                batch.append(PipelineCommand(0, "ASKING"))
            batch.append(PipelineCommand(0, *errand.command.words))
            sent.append((errand, batch[-1]))
        if len(batches) == 1:
            [(node, batch)] = batches.values()
            await self._ask(node, batch)
        else:
            # All are waited for: cancelling the others would cost them their connections.
            asked = (self._ask(node, batch) for node, batch in batches.values())
            for failure in await asyncio.gather(*asked, return_exceptions=True):
                if isinstance(failure, BaseException):
                    raise failure
        for errand, command in sent:
            if isinstance(command.result, ConnectionError | TimeoutError):
                raise command.result
            errand.answer = command.result

    async def _ask(self, node: ClusterNode, batch: list[PipelineCommand]) -> None:
        answered = False
        try:
            await node.execute_pipeline(batch)
            answered = not any(isinstance(command.result, ConnectionError | TimeoutError) for command in batch)
        finally:
            if not answered:  # cancelled, too: a frozen node looks like that to a caller in a hurry
                self._doubts.add(node.name)

    async def _redirected(self, errands: Sequence[_Errand]) -> list[_Errand]:
        """Return the errands that must go elsewhere, each told where."""
        again = []
        for errand in errands:
            match errand.answer:
                case MovedError() as error:  # before AskError, its base class
                    with contextlib.suppress(LookupError):  # a map that was read anew meanwhile may lack the slot
                        await self._map.move_slot(error)
                    errand.node, errand.asking = None, False
                    self._doubts.add(_NOT_READ)
                case AskError() as error:
                    errand.node, errand.asking = await self._node(error), True
                case TryAgainError():
                    await asyncio.sleep(TRY_AGAIN_S)
                case ClusterDownError() as error:
                    self._doubts.add(_NOT_READ)
                    raise error
                case _:
                    continue
            again.append(errand)
        return again

    def _owner(self, slot: int) -> ClusterNode:
        nodes = self._map.slots_cache.get(slot)
        if not nodes:
            self._doubts.add(_NOT_READ)
            raise ClusterDownError(f"no node serves slot {slot}")
        return nodes[0]

    async def _node(self, error: AskError) -> ClusterNode:
        node = self._map.get_node(error.host, error.port)
        if node is None:
            await self._read_map(_NOT_READ)
            node = self._map.get_node(error.host, error.port)
        if node is None:
            raise ClusterError(f"sent to {error.host}:{error.port}, which is no node of this Cluster")
        return node
