"""Discovery in ZooKeeper.

::

    CHROOT/ring               {"epoch", "nodes", "pending", "previous", "spares"}, a lasting node
    CHROOT/ring-actions       what was done to the ring, oldest first
    CHROOT/leader/…           the candidates for ring keeper
    CHROOT/members/ROLE/ID    a member, an ephemeral node

Everybody may read all of it. A member's node is its process's alone. Where the ring has credentials, only those who
show them may write the ring and its past, and be candidates.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from discovery.codec import encode_actions, encode_ring, readable_actions
from discovery.ring_in_force import RingInForce
from discovery.zookeeper import Access, Denied, Node, Watcher, ZooKeeper, open_session
from discovery.zookeeper_leader import Candidate
from discovery.zookeeper_members import RETRY_S, ZookeeperRegistration, role_path, watch_members
from nearby.errors import RingConflict, StoreUnavailable
from nearby.ports import Leadership, Member, Registration, RingAction, RingState, Role
from nearby.settings import Secret

_log = logging.getLogger(__name__)

START_TIMEOUT_S = 2.0
"""How long a process waits for ZooKeeper before it begins with the ring it has kept, or unannounced."""
WITHDRAW_TIMEOUT_S = 1.0
_APPEND_ATTEMPTS = 100


class ZookeeperDiscovery:
    """The port ``Discovery`` on a ZooKeeper session; open it by :func:`open_zookeeper`."""

    def __init__(self, zookeeper: ZooKeeper, root: str, in_force: RingInForce) -> None:
        self._zookeeper = zookeeper
        self._root = root
        self._ring_path = f"{root}/ring"
        self._actions_path = f"{root}/ring-actions"
        self._leader_path = f"{root}/leader"
        self._in_force = in_force
        self._prepared = False
        self._preparing = asyncio.Lock()
        self._chores: list[Callable[[], Awaitable[None]]] = []

    @property
    def refused_rings(self) -> int:
        """How many rings have been refused; the last good one stayed in force each time."""
        return self._in_force.refused_count

    async def read_ring(self) -> RingState | None:
        """Return the ring as it is now, ``None`` if there has never been one.

        Raises:
            RingError: what is there is no ring, or an older one than this process has seen.
            StoreUnavailable: ZooKeeper does not answer.
        """
        return self._in_force.check(_data(await self._read(self._ring_path)))

    async def write_ring(self, ring: RingState, *, expected: RingState | None) -> None:
        """Put ``ring`` in place of ``expected``, on the disks of a majority before this returns.

        Raises:
            RingError: ``ring`` is empty, malformed or older.
            RingConflict: the present ring is not ``expected``.
            StoreUnavailable: ZooKeeper does not answer, or denies it to whoever lacks the ring's credentials.
        """
        data = encode_ring(ring)
        await self._prepare()
        stored = await self._read(self._ring_path)
        self._in_force.check_replacement(_data(stored), ring, expected)
        if not await self._put(self._ring_path, data, stored):
            raise RingConflict("somebody else wrote the ring at the same time")

    async def watch_ring(self) -> AsyncIterator[RingState]:
        """Yield the present ring, waiting for the first one, and then each change; good rings only.

        Begins with the ring that was kept on disk if ZooKeeper does not answer within 2 seconds.
        """
        shown: RingState | None = None
        timeout_s: float | None = START_TIMEOUT_S
        with self._zookeeper.watcher() as watcher:
            while not self._zookeeper.closed:
                known = await self._look_at_ring(watcher, timeout_s)
                timeout_s = None
                ring = self._in_force.ring
                if ring is not None and ring != shown:
                    shown = ring
                    yield ring
                await watcher.wait(None if known else RETRY_S)

    async def record_action(self, action: RingAction) -> None:
        """Remember ``action``; the newest 200 are kept.

        Raises:
            StoreUnavailable: ZooKeeper does not answer, or denies it to whoever lacks the ring's credentials.
        """
        await self._prepare()
        for _ in range(_APPEND_ATTEMPTS):
            stored = await self._read(self._actions_path)
            actions = [*readable_actions(_data(stored)), action]
            if await self._put(self._actions_path, encode_actions(actions), stored):
                return
        raise StoreUnavailable("discovery", f"{_APPEND_ATTEMPTS} times somebody else wrote at the same time")

    async def actions(self) -> list[RingAction]:
        """Return the remembered actions, oldest first.

        Raises:
            StoreUnavailable: ZooKeeper does not answer.
        """
        return readable_actions(_data(await self._read(self._actions_path)))

    @asynccontextmanager
    async def register(self, member: Member) -> AsyncIterator[Registration]:
        """Announce ``member`` until the context ends or this process dies.

        A dead or older process of the same role and id is replaced. While ZooKeeper is away, the member is
        announced as soon as it is back; nothing is raised.
        """
        registration = ZookeeperRegistration(self._zookeeper, self._root, member, self._prepare)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(START_TIMEOUT_S):
                    await registration.announce(None)
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(registration.keep(), name=f"member {member.member_id}")
                try:
                    yield registration
                finally:
                    keeping.cancel()
        finally:
            await self._finish(registration.withdraw)

    async def watch_members(self, role: Role) -> AsyncIterator[Mapping[str, Member]]:
        """Yield the live members of ``role`` by id: those of now, perhaps none, and then each change."""
        async for members in watch_members(self._zookeeper, self._root, role):
            yield members

    @asynccontextmanager
    async def leadership(self, member_id: str) -> AsyncIterator[Leadership]:
        """Enter when ``member_id`` is elected, however long that takes; step down on leaving.

        It is lost at once when the connection is, since the session may end meanwhile.

        Raises:
            StoreUnavailable: ZooKeeper denies it to whoever lacks the ring's credentials.
        """
        with self._zookeeper.cut_offs() as lost:
            candidate = Candidate(self._zookeeper, self._leader_path, member_id, lost, self._prepare)
            try:
                await candidate.elected()
                async with asyncio.TaskGroup() as tasks:
                    watch = tasks.create_task(candidate.watch(), name=f"leadership of {member_id}")
                    try:
                        yield candidate
                    finally:
                        watch.cancel()
            finally:
                await self._finish(candidate.withdraw)

    async def aclose(self) -> None:
        """Leave: watches end, registrations end with the session. Idempotent."""
        await self._zookeeper.aclose()

    async def keep_up(self) -> None:
        """Time the session and do what could not be done while ZooKeeper was away, until cancelled."""
        with self._zookeeper.watcher() as watcher:
            while not self._zookeeper.closed:
                await watcher.wait(self._zookeeper.beat_s)
                await self._zookeeper.check()
                with contextlib.suppress(StoreUnavailable):
                    while self._chores:
                        await self._chores[0]()
                        self._chores.pop(0)

    async def _finish(self, chore: Callable[[], Awaitable[None]]) -> None:
        """Do ``chore`` now, or when ZooKeeper is back: an ephemeral node lives as long as our session."""
        if self._zookeeper.closed:
            return
        try:
            async with asyncio.timeout(WITHDRAW_TIMEOUT_S):
                await chore()
        except Denied:
            return
        except (StoreUnavailable, TimeoutError):
            self._chores.append(chore)

    async def _look_at_ring(self, watcher: Watcher, timeout_s: float | None) -> bool:
        """Consider the stored ring; whether ZooKeeper answered."""
        everything = watcher.take() is None
        try:
            async with asyncio.timeout(timeout_s):
                if everything:
                    await self._zookeeper.sync(self._ring_path)
                node = await self._zookeeper.get(self._ring_path, watcher)
        except (StoreUnavailable, TimeoutError):
            watcher.doubt()
            return False
        await self._in_force.consider(_data(node))
        return True

    async def _read(self, path: str) -> Node | None:
        await self._zookeeper.sync(path)
        return await self._zookeeper.get(path)

    async def _put(self, path: str, data: bytes, stored: Node | None) -> bool:
        """Write a node of the ring's in place of what was read; whether nobody else did meanwhile."""
        if stored is None:
            return await self._zookeeper.create(path, data, Access.RING)
        return await self._zookeeper.set(path, data, stored.version)

    async def _prepare(self) -> None:
        """Make the nodes under which others are, once, and close those that are the ring's."""
        async with self._preparing:
            if self._prepared:
                return
            names = self._root.split("/")
            for depth in range(2, len(names)):
                await self._make("/".join(names[:depth]), Access.EVERYBODY)
            await self._make(self._root, Access.RING)
            await self._make(f"{self._root}/members", Access.EVERYBODY)
            for role in Role:
                await self._make(role_path(self._root, role), Access.EVERYBODY)
            await self._make(self._leader_path, Access.RING)
            if self._zookeeper.protects_ring:
                for path in (self._root, self._leader_path, self._ring_path, self._actions_path):
                    await self._zookeeper.protect(path)
            self._prepared = True

    async def _make(self, path: str, access: Access) -> None:
        # Asked first: where nodes may not be made, it is denied even if there is one.
        if await self._zookeeper.get(path) is None:
            await self._zookeeper.create(path, b"", access)


@asynccontextmanager
async def open_zookeeper(
    hosts: str, root: str, ring_file: Path | None, ring_auth: Secret | None, session_timeout_s: float
) -> AsyncIterator[ZookeeperDiscovery]:
    """Yield the discovery under the node ``root`` of the ensemble ``hosts``, whether that answers or not."""
    in_force = RingInForce(ring_file)
    await in_force.load()
    own = Secret(f"member:{secrets.token_hex(16)}")
    async with open_session(hosts, session_timeout_s, own, ring_auth) as zookeeper, asyncio.TaskGroup() as tasks:
        discovery = ZookeeperDiscovery(zookeeper, root, in_force)
        keeping = tasks.create_task(discovery.keep_up(), name="ZooKeeper session")
        try:
            yield discovery
        finally:
            keeping.cancel()


def _data(node: Node | None) -> bytes | None:
    return node.data if node is not None else None
