"""Discovery in a directory of files, for the processes of one machine.

::

    DIRECTORY/ring.json              {"epoch", "nodes", "pending", "previous", "spares"}, replaced whole
    DIRECTORY/ring-actions.json      what was done to the ring, oldest first
    DIRECTORY/ring.lock              held while one of these two is compared and replaced
    DIRECTORY/leader                 the id of the leader, which holds the file's lock
    DIRECTORY/members/ROLE/ID.json   a member, alive as long as its owner holds the file's lock

The machine's file system must know ``flock``; network file systems do not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from discovery.codec import encode_actions, encode_ring, readable_actions
from discovery.leader_file import LeaderFile
from discovery.locked_files import exclusive, replace
from discovery.member_files import MemberFile, live_members
from discovery.ring_in_force import RingInForce
from nearby.errors import StoreUnavailable
from nearby.ports import Leadership, Member, Registration, RingAction, RingState, Role

_log = logging.getLogger(__name__)

POLL_S = 0.2
"""How often files are looked at. No file system event tells that a lock was dropped, and a look costs some
0.1 ms; so a death is seen well within the second in which clients must be sent elsewhere."""


class FileDiscovery:
    """The port ``Discovery`` on a directory, made if it is missing. File I/O runs in threads.

    The last good ring is kept in ``ring_file`` too, unless that is ``None``.
    """

    def __init__(self, directory: Path, ring_file: Path | None = None) -> None:
        self._directory = directory
        self._ring_path = directory / "ring.json"
        self._actions_path = directory / "ring-actions.json"
        self._in_force = RingInForce(ring_file)
        self._loaded = False
        self._closed = False

    @property
    def refused_rings(self) -> int:
        """How many rings have been refused; the last good one stayed in force each time."""
        return self._in_force.refused_count

    async def read_ring(self) -> RingState | None:
        """Return the ring as it is now, ``None`` if there has never been one.

        Raises:
            RingError: what is there is no ring, or an older one than this process has seen.
            StoreUnavailable: the directory is away.
        """
        await self._load()
        with _unavailable():
            data = await asyncio.to_thread(_read, self._ring_path)
        return self._in_force.check(data)

    async def write_ring(self, ring: RingState, *, expected: RingState | None) -> None:
        """Put ``ring`` in place of ``expected``, on disk before this returns.

        Raises:
            RingError: ``ring`` is empty, malformed or older.
            RingConflict: the present ring is not ``expected``.
            StoreUnavailable: the directory is away.
        """
        data = encode_ring(ring)
        await self._load()
        with _unavailable():
            await asyncio.to_thread(self._replace_ring, ring, expected, data)

    async def watch_ring(self) -> AsyncIterator[RingState]:
        """Yield the present ring, waiting for the first one, and then each change; good rings only."""
        await self._load()
        shown: RingState | None = None
        while not self._closed:
            # While the directory is away nothing is known, so nothing is refused.
            with contextlib.suppress(OSError):
                await self._in_force.consider(await asyncio.to_thread(_read, self._ring_path))
            ring = self._in_force.ring
            if ring is not None and ring != shown:
                shown = ring
                yield ring
            await asyncio.sleep(POLL_S)

    async def record_action(self, action: RingAction) -> None:
        """Remember ``action``; the newest 200 are kept.

        Raises:
            StoreUnavailable: the directory is away.
        """
        with _unavailable():
            await asyncio.to_thread(self._append_action, action)

    async def actions(self) -> list[RingAction]:
        """Return the remembered actions, oldest first.

        Raises:
            StoreUnavailable: the directory is away.
        """
        with _unavailable():
            return readable_actions(await asyncio.to_thread(_read, self._actions_path))

    @asynccontextmanager
    async def register(self, member: Member) -> AsyncIterator[Registration]:
        """Announce ``member`` until the context ends or this process dies.

        A dead or older process of the same role and id is replaced. If the file is removed, it is written again.

        Raises:
            StoreUnavailable: the directory cannot be written, so nobody would learn of this member.
        """
        file = MemberFile(self._directory, member)
        with _unavailable():
            await asyncio.to_thread(file.announce, member)
        try:
            async with asyncio.TaskGroup() as tasks:
                renewal = tasks.create_task(_renew(file), name=f"member {member.member_id}")
                try:
                    yield FileRegistration(member, file)
                finally:
                    renewal.cancel()
        finally:
            await asyncio.to_thread(file.withdraw)

    async def watch_members(self, role: Role) -> AsyncIterator[Mapping[str, Member]]:
        """Yield the live members of ``role`` by id: those of now, perhaps none, and then each change."""
        shown: Mapping[str, Member] | None = None
        away = False
        await asyncio.to_thread(self._make_directory)
        while not self._closed:
            try:
                members = await asyncio.to_thread(live_members, self._directory, role)
            except OSError as error:
                if not away:
                    _log.warning("discovery is away: %s", error)
                away = True
            else:
                away = False
                if members != shown:
                    shown = members
                    yield dict(members)
            await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def leadership(self, member_id: str) -> AsyncIterator[Leadership]:
        """Enter when ``member_id`` is elected, that is when nobody else holds the leader file; let go on leaving.

        The kernel lets go for a process that dies. Leadership is lost if somebody removes the file.
        """
        file = LeaderFile(self._directory / "leader")
        try:
            await _elected(file, member_id)
            lost = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(_watch_leadership(file, lost), name=f"leadership of {member_id}")
                try:
                    yield FileLeadership(lost)
                finally:
                    watch.cancel()
        finally:
            await asyncio.to_thread(file.let_go)

    async def aclose(self) -> None:
        """Leave: watches end within :data:`POLL_S`. Idempotent."""
        self._closed = True

    async def _load(self) -> None:
        if not self._loaded:
            await self._in_force.load()
            self._loaded = True

    def _make_directory(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)

    def _replace_ring(self, ring: RingState, expected: RingState | None, data: bytes) -> None:
        self._make_directory()
        with exclusive(self._directory / "ring.lock"):
            self._in_force.check_replacement(_read(self._ring_path), ring, expected)
            os.close(replace(self._ring_path, data, durable=True))

    def _append_action(self, action: RingAction) -> None:
        self._make_directory()
        with exclusive(self._directory / "ring.lock"):
            actions = [*readable_actions(_read(self._actions_path)), action]
            os.close(replace(self._actions_path, encode_actions(actions), durable=True))


class FileLeadership:
    """The port ``Leadership`` on the lock of a file."""

    def __init__(self, lost: asyncio.Event) -> None:
        self._lost = lost

    @property
    def lost(self) -> bool:
        """Whether somebody else may have been elected meanwhile."""
        return self._lost.is_set()

    async def wait_lost(self) -> None:
        """Return once :attr:`lost` is true."""
        await self._lost.wait()


class FileRegistration:
    """The port ``Registration`` on a member's file."""

    def __init__(self, member: Member, file: MemberFile) -> None:
        self._identity = (member.role, member.member_id)
        self._file = file

    async def update(self, member: Member) -> None:
        """Replace the entry; while the directory is away it is kept and written on its return.

        Raises:
            ValueError: ``member`` has another role or id.
        """
        if (member.role, member.member_id) != self._identity:
            raise ValueError(f"registered as {self._identity}, not as {(member.role, member.member_id)}")
        try:
            await asyncio.to_thread(self._file.announce, member)
        except OSError as error:
            _log.warning("discovery is away: %s", error)


async def _renew(file: MemberFile) -> None:
    away = False
    while True:
        await asyncio.sleep(POLL_S)
        try:
            await asyncio.to_thread(file.renew)
            away = False
        except OSError as error:
            if not away:
                _log.warning("discovery is away: %s", error)
            away = True


async def _elected(file: LeaderFile, member_id: str) -> None:
    away = False
    while True:
        try:
            if await asyncio.to_thread(file.try_take, member_id):
                return
            away = False
        except OSError as error:
            if not away:
                _log.warning("discovery is away: %s", error)
            away = True
        await asyncio.sleep(POLL_S)


async def _watch_leadership(file: LeaderFile, lost: asyncio.Event) -> None:
    held = True
    while held:
        await asyncio.sleep(POLL_S)
        held = await asyncio.to_thread(file.held)
    _log.warning("leadership is lost: its file was removed")
    lost.set()


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable("discovery", str(error)) from error


def _read(path: Path) -> bytes | None:
    """Return what is in the file ``path``, ``None`` if there is none.

    Raises:
        OSError: the folder is away, which is not the same.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
