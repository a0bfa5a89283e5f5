"""Members as ephemeral nodes ``members/ROLE/ID``: one's own registration, and the watch of a role.

An entry carries the id of its registration beside the member, so that a process knows its own entry from that of an
older or newer process with its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from urllib.parse import quote

import msgspec

from discovery.zookeeper import Access, Node, Watcher, ZooKeeper
from nearby.errors import StoreUnavailable
from nearby.ports import Member, Role

_log = logging.getLogger(__name__)

RETRY_S = 1.0
"""How soon to ask again what ZooKeeper did not answer although it is connected."""
UPDATE_TIMEOUT_S = 2.0
_ATTEMPTS = 5


class _Entry(msgspec.Struct, frozen=True):
    registration: str
    member: Member


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Entry)


def role_path(root: str, role: Role) -> str:
    """Return the path under which the members of ``role`` are."""
    return f"{root}/members/{role.value}"


class ZookeeperRegistration:
    """The port ``Registration``: an entry that is put back whenever it is gone or a ghost of ours.

    The first announcement takes the place of whoever has our name: the newer process wins. After that another's entry
    is left alone for as long as it is there.
    """

    def __init__(self, zookeeper: ZooKeeper, root: str, member: Member, prepare: Callable[[], Awaitable[None]]) -> None:
        self._zookeeper = zookeeper
        # Percent-encoded, so that an id is one name; a name of dots alone is not allowed.
        name = quote(member.member_id, safe="").replace(".", "%2E")
        self._path = f"{role_path(root, member.role)}/{name}"
        self._member = member
        self._prepare = prepare
        self._id = uuid.uuid4().hex
        self._announced = False
        self._taken = False
        self._away = False
        self._withdrawn = False
        self._keeper: Watcher | None = None
        self._busy = asyncio.Lock()

    async def update(self, member: Member) -> None:
        """Replace the entry; if ZooKeeper does not answer within 2 seconds, it is written as soon as it does.

        Raises:
            ValueError: ``member`` has another role or id.
        """
        identity = (self._member.role, self._member.member_id)
        if (member.role, member.member_id) != identity:
            raise ValueError(f"registered as {identity}, not as {(member.role, member.member_id)}")
        self._member = member
        known = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UPDATE_TIMEOUT_S):
                known = await self.announce(None)
        if not known and self._keeper is not None:
            self._keeper.wake()

    async def announce(self, watcher: Watcher | None) -> bool:
        """Make the entry say what it should, if ZooKeeper answers; return whether it did."""
        async with self._busy:
            if self._withdrawn:
                return True
            try:
                await self._prepare()
                for _ in range(_ATTEMPTS):
                    if await self._write(watcher):
                        break
            except StoreUnavailable as error:
                if not self._away:
                    _log.warning("%s is not announced: %s", self._path, error)
                self._away = True
                return False
            self._away = False
            return True

    async def keep(self) -> None:
        """Put the entry back whenever it is gone, until cancelled."""
        with self._zookeeper.watcher() as watcher:
            self._keeper = watcher
            while not self._zookeeper.closed:
                known = await self.announce(watcher)
                await watcher.wait(None if known else RETRY_S)

    async def withdraw(self) -> None:
        """Delete the entry if it is ours; it is never written again.

        Raises:
            StoreUnavailable: it may still be there.
        """
        self._withdrawn = True
        async with self._busy:
            await self._zookeeper.sync(self._path)
            node = await self._zookeeper.get(self._path)
            if node is not None and self._is_ours(node):
                await self._zookeeper.delete(self._path, node.version)

    async def _write(self, watcher: Watcher | None) -> bool:
        """Whether the entry is as it should be; if not, it has changed meanwhile."""
        data = _encoder.encode(_Entry(self._id, self._member))
        await self._zookeeper.sync(self._path)
        node = await self._zookeeper.get(self._path, watcher)
        if node is None:
            written = await self._zookeeper.create(self._path, data, Access.OWNER, ephemeral=True)
        elif not self._is_ours(node):
            if self._announced:
                self._stand_back()
                return True
            written = await self._zookeeper.take_place(self._path, data, node.version)
        elif node.session != self._zookeeper.session:
            # The ghost of a session of ours that ended, or is about to.
            written = await self._zookeeper.take_place(self._path, data, node.version)
        else:
            written = node.data == data or await self._zookeeper.set(self._path, data, node.version)
        self._announced = self._announced or written
        self._taken = self._taken and not written
        return written

    def _is_ours(self, node: Node) -> bool:
        try:
            return _decoder.decode(node.data).registration == self._id
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return node.session == self._zookeeper.session

    def _stand_back(self) -> None:
        if not self._taken:
            _log.warning("another process took the name of %s", self._path)
        self._taken = True


async def watch_members(zookeeper: ZooKeeper, root: str, role: Role) -> AsyncIterator[Mapping[str, Member]]:
    """Yield the live members of ``role`` by id: those of now, perhaps none, and then each change."""
    path = role_path(root, role)
    entries: dict[str, Member | None] = {}
    shown: Mapping[str, Member] | None = None
    with zookeeper.watcher() as watcher:
        while not zookeeper.closed:
            changed = watcher.take()
            try:
                if changed is None:
                    entries.clear()
                    await zookeeper.sync(path)
                await _refresh(zookeeper, path, entries, changed or set(), watcher)
            except StoreUnavailable:
                watcher.doubt()
                await watcher.wait(RETRY_S)
                continue
            members = {member.member_id: member for member in entries.values() if member is not None}
            if members != shown:
                shown = members
                yield dict(members)
            await watcher.wait()


async def _refresh(
    zookeeper: ZooKeeper, path: str, entries: dict[str, Member | None], changed: set[str], watcher: Watcher
) -> None:
    """Bring ``entries`` up to date by name; an unreadable one is ``None``."""
    names = set(await zookeeper.children(path, watcher))
    for name in entries.keys() - names:
        del entries[name]
    for name in names:
        if name in entries and f"{path}/{name}" not in changed:
            continue
        node = await zookeeper.get(f"{path}/{name}", watcher)
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = _readable(f"{path}/{name}", node.data)


def _readable(path: str, data: bytes) -> Member | None:
    try:
        return _decoder.decode(data).member
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # As a newer process might write during a rolling upgrade; the others are still good.
        _log.warning("the member at %s is not readable: %s", path, error)
        return None
