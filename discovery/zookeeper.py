"""One ZooKeeper session for a process, in asyncio: the only file that knows kazoo.

Two facts of kazoo shape it. Its callbacks run on its own threads, so here they only hand over to the event loop. While
cut off it reports SUSPENDED and never LOST, and it does not bring ephemeral nodes back: so the session is timed here
too, and everybody with an interest looks again after each reconnection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, KazooException, NoAuthError, NodeExistsError, NoNodeError
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.security import OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, make_digest_acl

from nearby.errors import StoreUnavailable
from nearby.settings import Secret

_log = logging.getLogger(__name__)

CALL_TIMEOUT_S = 5.0
"""How long one question may take, waiting for a connection included."""
CLOSE_TIMEOUT_S = 2.0
"""How long to wait for the session to be closed; a server that is away cannot be told and ends it by its time-out."""
_RECONNECT_DELAY_S = 0.05
_MAX_RECONNECT_DELAY_S = 0.5
_BEATS_PER_SESSION = 3


class Denied(StoreUnavailable):
    """ZooKeeper does not permit this to whoever shows our credentials; asking again is in vain."""


class Access(Enum):
    """Who may change a node. Everybody may read every node."""

    EVERYBODY = "everybody"
    RING = "ring"
    """Whoever shows the ring's credentials; everybody where there are none."""
    OWNER = "owner"
    """This session's process alone."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node as it was read. ``session`` is the owner of an ephemeral node, 0 for a lasting one."""

    data: bytes
    version: int
    session: int


class Watcher:
    """Wakes one waiter when a node that it watches changes, and whenever the connection has come back."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._woken = asyncio.Event()
        self._changed: set[str] = set()
        self._doubtful = True

    def __call__(self, event: Any) -> None:
        """Take an event from kazoo's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._note, event.path)

    def doubt(self) -> None:
        """Let the next :meth:`take` say that anything may have changed, since a look has failed."""
        self._doubtful = True

    def wake(self) -> None:
        """Wake the waiter to look at everything anew."""
        self._doubtful = True
        self._woken.set()

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return at the next change, or one that came since the last call, or after ``timeout_s`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        self._woken.clear()

    def take(self) -> set[str] | None:
        """Return the paths that changed since the last call; ``None`` if anything may have changed."""
        changed, self._changed = self._changed, set()
        everything, self._doubtful = self._doubtful, False
        return None if everything else changed

    def _note(self, path: str | None) -> None:
        if path is None:  # the connection is gone, and this watch with it
            self._doubtful = True
        else:
            self._changed.add(path)
        self._woken.set()


class ZooKeeper:
    """A session that renews itself; open it by :func:`open_session`. Every call is bounded in time.

    Raises:
        StoreUnavailable: from each call, if ZooKeeper did not answer; what was asked may or may not have happened.
        Denied: from each call, if it is not permitted.
    """

    def __init__(self, hosts: str, session_timeout_s: float, own: Secret, ring_auth: Secret | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._hosts = hosts
        self._session_timeout_s = session_timeout_s
        credentials = [own, *([ring_auth] if ring_auth is not None else [])]
        retry = {"max_tries": -1, "delay": _RECONNECT_DELAY_S, "max_delay": _MAX_RECONNECT_DELAY_S}
        self._client: Any = KazooClient(
            hosts,
            timeout=session_timeout_s,
            auth_data=[("digest", credential.value) for credential in credentials],
            connection_retry=retry,
            logger=_quiet_logger(),
        )
        self._acls = {
            Access.EVERYBODY: OPEN_ACL_UNSAFE,
            Access.RING: _closed_to(ring_auth) if ring_auth is not None else OPEN_ACL_UNSAFE,
            Access.OWNER: _closed_to(own),
        }
        self.protects_ring = ring_auth is not None
        self._connected = asyncio.Event()
        self._heard_at_s = self._loop.time()
        self._cut_off_logged = False
        self._watchers: set[Watcher] = set()
        self._leaderships: set[asyncio.Event] = set()
        self._closed = False

    @property
    def session(self) -> int:
        """The id of the present session, 0 if there is none."""
        known = self._client.client_id
        return int(known[0]) if known is not None and known[0] else 0

    @property
    def closed(self) -> bool:
        """Whether :meth:`aclose` was called."""
        return self._closed

    @contextmanager
    def watcher(self) -> Iterator[Watcher]:
        """Yield something to watch nodes with, which is also woken by each reconnection and by the end."""
        watcher = Watcher(self._loop)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    @contextmanager
    def cut_offs(self) -> Iterator[asyncio.Event]:
        """Yield an event that is set when the connection is gone: the session may then end without our knowledge."""
        event = asyncio.Event()
        self._leaderships.add(event)
        try:
            yield event
        finally:
            self._leaderships.discard(event)

    async def get(self, path: str, watcher: Watcher | None = None) -> Node | None:
        """Return the node at ``path``, ``None`` if there is none; either way ``watcher`` learns of the next change."""
        while True:
            try:
                data, stat = await self._call(self._client.get_async, path, watch=watcher)
            except NoNodeError:
                # A question for data leaves no watch where there is no node.
                if watcher is None or not await self._call(self._client.exists_async, path, watch=watcher):
                    return None
            else:
                return Node(data, stat.version, stat.ephemeralOwner)

    async def children(self, path: str, watcher: Watcher | None = None) -> list[str]:
        """Return the names of the nodes under ``path``; ``watcher`` learns of the next that comes or goes."""
        while True:
            try:
                names: list[str] = await self._call(self._client.get_children_async, path, watch=watcher)
            except NoNodeError:
                if watcher is None or not await self._call(self._client.exists_async, path, watch=watcher):
                    return []
            else:
                return names

    async def sync(self, path: str) -> None:
        """Let later questions see at least what is written by now, whichever server we are connected to."""
        await self._call(self._client.sync_async, path)

    async def create(self, path: str, data: bytes, access: Access, *, ephemeral: bool = False) -> bool:
        """Make a node, which goes with the session if it is ``ephemeral``; return whether there was none yet."""
        try:
            await self._call(self._client.create_async, path, data, acl=self._acls[access], ephemeral=ephemeral)
        except (NodeExistsError, NoNodeError):
            return False
        return True

    async def enqueue(self, prefix: str, data: bytes) -> None:
        """Make an ephemeral node of the ring's: ``prefix`` with the next number of its parent."""
        acl = self._acls[Access.RING]
        await self._call(self._client.create_async, prefix, data, acl=acl, ephemeral=True, sequence=True)

    async def set(self, path: str, data: bytes, version: int) -> bool:
        """Replace a node's data; return whether it was there at ``version``."""
        try:
            await self._call(self._client.set_async, path, data, version=version)
        except (BadVersionError, NoNodeError):
            return False
        return True

    async def delete(self, path: str, version: int = -1) -> bool:
        """Delete a node; return whether it was there at ``version`` (-1: at any)."""
        try:
            await self._call(self._client.delete_async, path, version=version)
        except (BadVersionError, NoNodeError):
            return False
        return True

    async def take_place(self, path: str, data: bytes, version: int) -> bool:
        """Put an ephemeral node of ours in place of another's, at once; return whether that was at ``version``."""
        transaction = self._client.transaction()
        transaction.delete(path, version=version)
        transaction.create(path, data, acl=self._acls[Access.OWNER], ephemeral=True)
        results = await self._call(transaction.commit_async)
        if any(isinstance(result, NoAuthError) for result in results):
            raise Denied("discovery", f"{path} may not be replaced")
        return not any(isinstance(result, KazooException) for result in results)

    async def protect(self, path: str) -> None:
        """Close an existing node to all who lack the ring's credentials."""
        wanted = self._acls[Access.RING]
        with contextlib.suppress(NoNodeError):
            present, _ = await self._call(self._client.get_acls_async, path)
            if set(present) != set(wanted):
                await self._call(self._client.set_acls_async, path, wanted)
                _log.info("%s is now closed to all who lack the ring's credentials", path)

    async def check(self) -> None:
        """Ask for a sign of life; after a session time-out without one, take the session as ended."""
        try:
            await self._call(self._client.exists_async, "/")
        except StoreUnavailable:
            if self._loop.time() - self._heard_at_s < self._session_timeout_s:
                return
            self._cut_off()
            if self._client.client_state == KeeperState.CLOSED and not self._closed:
                # An unforeseen error ended kazoo's thread.
                await asyncio.to_thread(self._client.start_async)

    @property
    def beat_s(self) -> float:
        """How often to call :meth:`check`, in seconds."""
        return self._session_timeout_s / _BEATS_PER_SESSION

    async def start(self) -> None:
        """Begin to connect; does not wait for it."""
        self._client.add_listener(self._on_kazoo_state)
        await asyncio.to_thread(self._client.start_async)

    async def aclose(self) -> None:
        """Close the session, and with it every ephemeral node of ours. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._connected.set()  # so that nobody waits for it
        self._cut_off()
        for watcher in self._watchers:
            watcher.wake()
        ended = asyncio.Event()
        # kazoo waits for a server that hangs, for as long as a session: a daemon thread delays nobody's exit.
        threading.Thread(target=self._stop, args=(ended,), daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await ended.wait()

    def _stop(self, ended: asyncio.Event) -> None:
        try:
            self._client.stop()
            self._client.close()
        except (KazooException, OSError) as error:
            _log.warning("the ZooKeeper session was not closed: %s", error)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(ended.set)

    async def _call(self, begin: Callable[..., Any], *args: Any, **options: Any) -> Any:
        answer: asyncio.Future[Any] = self._loop.create_future()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                # kazoo would queue questions without bound while it is cut off.
                await self._connected.wait()
                if self._closed:
                    raise StoreUnavailable("discovery", "it is closed")
                begin(*args, **options).rawlink(partial(self._hand_over, answer))
                result = await answer
        except TimeoutError as error:
            raise StoreUnavailable("discovery", f"ZooKeeper at {self._hosts} does not answer") from error
        except NoAuthError as error:
            raise Denied("discovery", f"ZooKeeper denies {begin.__name__} {args[:1]}") from error
        except (NoNodeError, NodeExistsError, BadVersionError):
            self._heard_at_s = self._loop.time()
            raise
        except KazooException as error:
            raise StoreUnavailable("discovery", f"ZooKeeper at {self._hosts}: {error!r}") from error
        self._heard_at_s = self._loop.time()
        return result

    def _hand_over(self, answer: asyncio.Future[Any], result: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(_settle, answer, result)

    def _on_kazoo_state(self, state: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._on_state, state)

    def _on_state(self, state: Any) -> None:
        if self._closed:
            return
        if state == KazooState.CONNECTED:
            _log.info("connected to ZooKeeper at %s", self._hosts)
            self._cut_off_logged = False
            self._connected.set()
            for watcher in self._watchers:
                watcher.wake()
            return
        if not self._cut_off_logged:
            _log.warning("cut off from ZooKeeper at %s: what is known stays in force", self._hosts)
        self._cut_off_logged = True
        self._connected.clear()
        self._cut_off()

    def _cut_off(self) -> None:
        for event in self._leaderships:
            event.set()


@asynccontextmanager
async def open_session(
    hosts: str, session_timeout_s: float, own: Secret, ring_auth: Secret | None
) -> AsyncIterator[ZooKeeper]:
    """Yield a session with ``hosts`` (``HOST:PORT[,HOST:PORT…]``), connected or not yet; close it afterwards.

    ``own`` and ``ring_auth`` are ``USER:PASSWORD``: what this process shows for its own nodes and for the ring's.
    """
    session = ZooKeeper(hosts, session_timeout_s, own, ring_auth)
    try:
        await session.start()
        yield session
    finally:
        await session.aclose()


def _closed_to(credentials: Secret) -> Sequence[Any]:
    user, _, password = credentials.value.partition(":")
    return [make_digest_acl(user, password, all=True), *READ_ACL_UNSAFE]


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():  # nobody waits any more
        return
    if result.exception is not None:
        answer.set_exception(result.exception)
    else:
        answer.set_result(result.value)


def _quiet_logger() -> logging.Logger:
    """Quiet kazoo, which warns of each attempt to connect; what matters is logged here."""
    logger = logging.getLogger("kazoo")
    logger.setLevel(logging.ERROR)
    return logger
