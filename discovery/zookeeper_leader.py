"""Election by ephemeral nodes that ZooKeeper numbers: the lowest number leads, each waits for the one before it.

The recipe "Leader Election" of the ZooKeeper documentation. A candidate's nodes begin with an id of its own, so that it
finds a node again whose creation was never answered. Whoever is cut off counts as having lost at once: its session may
end without its knowledge.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

from discovery.zookeeper import Denied, Watcher, ZooKeeper
from discovery.zookeeper_members import RETRY_S
from nearby.errors import StoreUnavailable

_NUMBER_DIGITS = 10


class Candidate:
    """One candidate for the leadership kept under ``path``, and the port ``Leadership`` once it is elected."""

    def __init__(
        self,
        zookeeper: ZooKeeper,
        path: str,
        member_id: str,
        lost: asyncio.Event,
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        self._zookeeper = zookeeper
        self._path = path
        self._member_id = member_id
        self._lost = lost
        self._prepare = prepare
        self._id = uuid.uuid4().hex
        self._node = ""

    @property
    def lost(self) -> bool:
        """Whether somebody else may have been elected meanwhile."""
        return self._lost.is_set()

    async def wait_lost(self) -> None:
        """Return once :attr:`lost` is true."""
        await self._lost.wait()

    async def elected(self) -> None:
        """Return when this candidate leads, however long that takes.

        Raises:
            Denied: it may not be a candidate.
            StoreUnavailable: discovery was closed.
        """
        with self._zookeeper.watcher() as watcher:
            while True:
                self._lost.clear()
                try:
                    await self._prepare()
                    if await self._leads(watcher) and not self._lost.is_set():
                        return
                except Denied:
                    raise
                except StoreUnavailable:
                    if self._zookeeper.closed:
                        raise
                    await watcher.wait(RETRY_S)
                else:
                    await watcher.wait()

    async def watch(self) -> None:
        """Notice when the node that makes this one the leader is taken away; returns when it is."""
        with self._zookeeper.watcher() as watcher:
            while not self._lost.is_set():
                try:
                    node = await self._zookeeper.get(self._node, watcher)
                    if node is None or node.session != self._zookeeper.session:
                        self._lost.set()
                except StoreUnavailable:
                    await watcher.wait(RETRY_S)
                else:
                    await watcher.wait()

    async def withdraw(self) -> None:
        """Delete every node of this candidate.

        Raises:
            StoreUnavailable: some may still be there.
        """
        await self._zookeeper.sync(self._path)
        for name in await self._zookeeper.children(self._path):
            if name.startswith(self._id):
                await self._zookeeper.delete(f"{self._path}/{name}")

    async def _leads(self, watcher: Watcher) -> bool:
        """Whether our node is the first one; if not, ``watcher`` learns of the next change that matters."""
        await self._zookeeper.sync(self._path)
        names = sorted(await self._zookeeper.children(self._path), key=lambda name: name[-_NUMBER_DIGITS:])
        mine = next((name for name in names if name.startswith(self._id)), None)
        if mine is None:
            await self._zookeeper.enqueue(f"{self._path}/{self._id}-", self._member_id.encode())
            return await self._leads(watcher)
        node = await self._zookeeper.get(f"{self._path}/{mine}", watcher)
        if node is None or node.session != self._zookeeper.session:
            # Of a session that has ended: it will be gone in a moment.
            watcher.wake()
            return False
        position = names.index(mine)
        if position == 0:
            self._node = f"{self._path}/{mine}"
            return True
        await self._zookeeper.get(f"{self._path}/{names[position - 1]}", watcher)
        return False
