"""The seams of the system: what each part promises the others. Read this file first.

A location report comes in over a WebSocket. The gateway writes it to the :class:`LocationCache`
(the truth about *now*) and the :class:`HistoryStream` (on its way to the :class:`HistoryStore`), and
then publishes it on the channel of its user through :class:`PubSub`. Every gateway with a friend of that
user connected is subscribed, computes the distance for each such friend and sends it. Who is a friend of whom
comes from the API through a :class:`FriendDirectory`. Where everything lives comes from :class:`Discovery`.

Pub/sub may lose messages and says when it may have (:meth:`PubSubListener.on_gap`); the cache is the truth and is
then read again. Nothing here promises to deliver every message, only that the last value gets through.

Whatever implements a port is built in some ``app.py``, passes the contract suite of that port in
``tests/contracts``, and raises :class:`nearby.errors.StoreUnavailable` when the server behind it does not answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from nearby.changes import Change
from nearby.model import FriendList, HistoryPoint, UserId
from nearby.record import LocationRecord

# ------------------------------------------------------------------------------------- location cache


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of one write: the version in force afterwards, and whether it was this write's.

    ``accepted`` is false when a location recorded at the same time or later was already known.
    """

    version: int
    accepted: bool


@dataclass(frozen=True, slots=True)
class CachedLocation:
    """A user's last known location, which the cache forgets in ``remaining_ms`` milliseconds unless renewed."""

    record: LocationRecord
    remaining_ms: int


class LocationCache(Protocol):
    """The last known location of each user, each entry ending by itself after a TTL.

    The TTL runs by the cache server's clock. Order is by ``recorded_at_ms``: an older record never replaces a
    newer one, whoever writes it and whenever it arrives. Versions of one user grow strictly.

    A cache that fails over to a standby may lose its latest writes, and one that restarts may lose all. So ``None``
    means unknown, never gone: whoever knows better goes on knowing. After such a loss an older record may be taken;
    its version still exceeds what its writer has heard of (docs/location-cache.md).
    """

    async def write_many(self, entries: Sequence[tuple[UserId, LocationRecord]]) -> list[WriteResult]:
        """Store each record unless one as recent is known; return the results in the same order.

        A record's own version is the newest that its writer has heard of for that user, 0 for none; the one given
        exceeds it. Entries of one user in one call are taken in their order.

        Raises:
            StoreUnavailable: some, all or none were written. Writing again is safe.
        """

    async def read_many(self, user_ids: Sequence[UserId]) -> list[CachedLocation | None]:
        """Return what is known of ``user_ids`` in the same order; ``None`` where nothing is (any more).

        Raises:
            StoreUnavailable: nothing is known about any of them, which is not the same as ``None``.
        """

    async def erase(self, user_id: UserId, fence_s: float) -> None:
        """Forget ``user_id``, and refuse what is written of them during the next ``fence_s`` seconds.

        Raises:
            StoreUnavailable: whether that happened is not known. Erasing again is safe.
        """

    async def now_ms(self) -> int:
        """Return the cache's clock, Unix milliseconds; where it is several servers, the one in the middle.

        Raises:
            StoreUnavailable: no server answered.
        """

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""


# ------------------------------------------------------------------------------------------- history


@dataclass(frozen=True, slots=True)
class HistoryFence:
    """A line in the history stream of ``user_id``: what lies behind it must not reach the store any more.

    Behind it lies what was recorded in [``from_ms``, ``to_ms``) and appended before ``until_ms``. ``at_ms`` is when
    the fence was put up, at most ``until_ms``. Both are by the stream server's clock.
    """

    user_id: UserId
    from_ms: int
    to_ms: int
    at_ms: int
    until_ms: int


class HistoryStream(Protocol):
    """The durable queue between gateways and history writers."""

    async def append_many(self, points: Sequence[HistoryPoint], *, durable: bool = False) -> None:
        """Append ``points``; once this returns they are in the history, now or later, or counted as lost.

        ``durable`` waits until they are on the disk of the stream's server, which may take a second, so that its death
        loses none. A server that is set up without a disk is not waited for.

        Raises:
            StoreUnavailable: some, all or none were appended. Appending again is safe: a point is
                stored once per user and instant.
        """

    async def fence(self, user_id: UserId, from_ms: int, to_ms: int, lasting_s: float = 0) -> HistoryFence:
        """Put up a fence now; what is appended during the next ``lasting_s`` seconds lies behind it, too.

        Writers drop what lies behind it; it stands for longer than anything can wait in the stream.

        Raises:
            StoreUnavailable: whether it stands is not known. Putting up another is safe.
        """

    async def passed(self, fence: HistoryFence) -> bool:
        """Whether nothing appended before ``fence.at_ms`` that lies behind ``fence`` waits in the stream any more.

        Then deleting up to ``fence.until_ms`` from the store is final: see :meth:`HistoryStore.delete`.

        Raises:
            StoreUnavailable: the server did not answer.
        """

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Points newest first, and the cursor of the next page, ``None`` at the end."""

    points: tuple[HistoryPoint, ...]
    next_before_ms: int | None


class HistoryStore(Protocol):
    """Where everybody's past lives. One point per user and ``recorded_at_ms``; writing it again changes nothing.

    Each point ends by itself: ``retention_s`` after its recording, or after the retention of the store where that is
    ``None`` or longer.
    """

    async def write_many(self, points: Sequence[HistoryPoint]) -> None:
        """Store ``points`` durably before returning; those that have ended or were deleted already are dropped.

        Raises:
            StoreUnavailable: some, all or none were stored. Writing again is safe.
        """

    async def read(self, user_id: UserId, from_ms: int, to_ms: int, limit: int) -> HistoryPage:
        """Return the newest ``limit`` points of one user with ``from_ms`` <= recorded_at < ``to_ms``.

        ``next_before_ms`` of the page is the ``to_ms`` that continues it.

        Raises:
            StoreUnavailable: the store did not answer.
        """

    async def delete(self, user_id: UserId, from_ms: int, to_ms: int, accepted_before_ms: int) -> None:
        """Delete points recorded in [``from_ms``, ``to_ms``) that the stream accepted before ``accepted_before_ms``.

        Such a point stays deleted: a writer that hung and writes it later changes nothing.

        Raises:
            StoreUnavailable: some, all or none were deleted. Deleting again is safe.
        """

    async def delete_expired(self, now_ms: int) -> int:
        """Free the points that have ended by ``now_ms`` and return how many; 0 where the store does so by itself.

        Nobody reads them before that, either.

        Raises:
            StoreUnavailable: the store did not answer.
        """

    async def aclose(self) -> None:
        """Close the store. Idempotent."""


# ------------------------------------------------------------------------------------------- pub/sub


class PubSubListener(Protocol):
    """Whoever receives what a :class:`PubSub` is subscribed to. Called on the event loop; must not block."""

    def on_message(self, channel: bytes, payload: bytes) -> None:
        """Take one message. Messages of one channel come in the order in which their shard had them."""

    def on_burst_end(self) -> None:
        """Everything that one read from a shard brought has been delivered: the moment to flush."""

    def on_gap(self, channels: Sequence[bytes]) -> None:
        """Take notice that messages on ``channels`` may have been lost.

        They are subscribed again, so reading the cache now misses nothing.
        """


class PubSub(Protocol):
    """Publish and subscribe over the ring of shards: at most once, and honest about gaps."""

    def publish(self, channel: bytes, payload: bytes) -> None:
        """Send ``payload`` to the shard of ``channel``; never blocks and never raises.

        While the shard is away the latest payload per channel is kept, bounded, and sent on its return.
        """

    def subscribe(self, channels: Sequence[bytes]) -> None:
        """Count one more subscriber of each channel; the first one begins the subscription."""

    async def confirmed(self, channels: Sequence[bytes]) -> None:
        """Return once every one of the subscribed ``channels`` is in force.

        Returns also if a shard stays away for longer than the subscribe time-out; ``on_gap`` follows
        once it is back.
        """

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        """Count one subscriber of each channel less; the last one ends the subscription."""

    def reachable(self, channel: bytes) -> bool:
        """Whether the shard of ``channel`` answers; while it does not, nothing is heard on the channel."""


# ------------------------------------------------------------------------------------- friend graph


class FriendDirectory(Protocol):
    """The gateway's view of the social graph, served by the API."""

    async def friend_list(self, user_id: UserId) -> FriendList | None:
        """Return the friends of ``user_id``, or ``None`` if there is no such user.

        Calls made within a few milliseconds travel together.

        Raises:
            StoreUnavailable: the API did not answer.
        """

    async def changes_after(self, sequence: int) -> list[Change]:
        """Return the next changes of the feed after row ``sequence``, oldest first; empty at its end.

        Raises:
            FeedBroken: changes after ``sequence`` are no longer kept, or the feed does not reach ``sequence``.
            StoreUnavailable: the API did not answer.
        """

    async def note_sightings(self, pairs: Sequence[tuple[UserId, UserId]]) -> None:
        """Note of each pair of an owner and a viewer that the viewer has just received a location of the owner.

        Raises:
            StoreUnavailable: some, all or none were noted. Noting them again is safe.
        """

    async def latest_sequence(self) -> int:
        """Return the newest row of the feed; 0 if there is none.

        Raises:
            StoreUnavailable: the API did not answer.
        """


# ----------------------------------------------------------------------------------------- discovery


class Role(Enum):
    """What a member of the system is."""

    GATEWAY = "gateway"
    API = "api"
    HISTORY_WRITER = "history_writer"
    RING_KEEPER = "ring_keeper"


class MemberState(Enum):
    """What a member is doing; only a serving gateway is named to clients."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Member:
    """One live process. Addresses are whole URLs; an empty one means that there is none.

    ``switched_epoch`` is the ring that the member publishes by, ``prepared_epoch`` the newest pending ring for which
    it is subscribed. ``unreachable`` names the slots whose shard does not answer it. All three are left alone by
    members that do not use the ring.
    """

    role: Role
    member_id: str
    state: MemberState = MemberState.STARTING
    url: str = ""
    admin_url: str = ""
    pid: int = 0
    connections: int = 0
    switched_epoch: int = 0
    prepared_epoch: int = 0
    unreachable: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)


class Registration(Protocol):
    """This process's own entry among the members."""

    async def update(self, member: Member) -> None:
        """Replace the entry. It is announced again by itself if the coordination service forgets it."""


@dataclass(frozen=True, slots=True)
class RingState:
    """The ring as discovery holds it: shard addresses by slot name, under an epoch that only grows.

    A resize goes through three writes: ``pending`` is what the nodes will be, under the next epoch; the commit makes
    it ``nodes`` under that epoch and keeps the nodes of before as ``previous``; when every member has switched,
    ``previous`` is cleared. Whoever subscribes does so at the owners of all the rings present, so no moment is without
    a subscription. ``spares`` are addresses of idle shards that may replace a dead one.
    """

    epoch: int
    nodes: Mapping[str, str]
    pending: Mapping[str, str] | None = None
    previous: Mapping[str, str] | None = None
    spares: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RingAction:
    """One thing that was done to the ring, for the people who run it: what, why and by whom."""

    at_ms: int
    epoch: int
    action: str
    reason: str
    actor: str


class Leadership(Protocol):
    """Being the one elected. It may end at any time; what a leader writes is checked against what it read."""

    @property
    def lost(self) -> bool:
        """Whether somebody else may have been elected meanwhile."""

    async def wait_lost(self) -> None:
        """Return once :attr:`lost` is true."""


class Discovery(Protocol):
    """Where things are: the pub/sub ring and the live members.

    A watch yields the present state first and then each change; states in between may be skipped, the last never is.
    While the coordination service is away, watches stay silent and the last known state stays in force.
    """

    async def read_ring(self) -> RingState | None:
        """Return the ring as it is now, ``None`` if there has never been one.

        Raises:
            RingError: what is there is no ring.
            StoreUnavailable: the coordination service does not answer.
        """

    async def write_ring(self, ring: RingState, *, expected: RingState | None) -> None:
        """Put ``ring`` in place of ``expected``, ``None`` where there is none yet.

        Raises:
            RingError: ``ring`` is empty or its epoch is below the present one's.
            RingConflict: the present ring is not ``expected``; read again and decide again.
            StoreUnavailable: the coordination service does not answer; it may or may not be written.
        """

    def watch_ring(self) -> AsyncIterator[RingState]:
        """Yield good rings only: an empty, unparsable or older one is refused, logged and counted.

        Where a file for it is configured, the last good ring is kept on disk and is what the watch begins
        with while the coordination service is away.
        """

    @property
    def refused_rings(self) -> int:
        """How many rings have been refused."""

    async def record_action(self, action: RingAction) -> None:
        """Remember ``action``; the newest 200 are kept.

        Raises:
            StoreUnavailable: the coordination service does not answer.
        """

    async def actions(self) -> list[RingAction]:
        """Return the remembered actions, oldest first.

        Raises:
            StoreUnavailable: the coordination service does not answer.
        """

    def register(self, member: Member) -> AbstractAsyncContextManager[Registration]:
        """Announce ``member`` until the context ends or this process dies."""

    def watch_members(self, role: Role) -> AsyncIterator[Mapping[str, Member]]:
        """Yield the live members of ``role`` by id."""

    def leadership(self, member_id: str) -> AbstractAsyncContextManager[Leadership]:
        """Enter when ``member_id`` is elected, however long that takes; step down on leaving."""

    async def aclose(self) -> None:
        """Leave. Idempotent."""


Clock = Callable[[], int]
"""Unix time in milliseconds; injected so that tests can hold it."""

Sleep = Callable[[float], Awaitable[None]]
"""Seconds to wait; injected so that tests can skip it."""
