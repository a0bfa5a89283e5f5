"""The gateway: carries out what sessions decide, and keeps the hub true to cache, pub/sub and friend graph."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from http_port.logs import UserHash
from nearby import changes
from nearby.changes import Change, FriendshipChanged, HistoryRetentionChanged, SharingChanged, TokensRevoked, Unreadable
from nearby.channels import control_channel, is_location, location_channel
from nearby.close_codes import CloseCode
from nearby.codecs import Codec
from nearby.errors import RecordError, StoreUnavailable
from nearby.messages import Ack, Error, FriendsChanged, ServerMessage, Welcome
from nearby.model import GoneReason, Location
from nearby.ports import CachedLocation, Clock, FriendDirectory, HistoryStream, LocationCache, PubSub
from nearby.record import LocationRecord, unpack
from nearby.settings import GatewaySettings
from nearby.sharing import Tier
from nearby.tokens import AccessToken
from ws_gateway import descriptors
from ws_gateway.admission import Admission, Refusal
from ws_gateway.arrivals import ArrivalEnd, Arrivals
from ws_gateway.batches import BatchQueue
from ws_gateway.cache_clock import CacheClock
from ws_gateway.connection import Connection
from ws_gateway.devices import Devices
from ws_gateway.feed import ChangeFeed
from ws_gateway.histogram import Histogram
from ws_gateway.hub import Hub
from ws_gateway.outbox import BUDGET_S, Outbox
from ws_gateway.refresh import Refresher
from ws_gateway.reports import Outcome, PendingReport, ReportPipeline, history_points
from ws_gateway.session import (
    Admit,
    AnswerPing,
    ChangeRadius,
    Close,
    Effect,
    Ping,
    Report,
    Resync,
    Send,
    Session,
    StoreBatch,
)
from ws_gateway.sightings import Sightings
from ws_gateway.tiers import TierChanges, edge_of
from ws_gateway.viewer import Viewer

if TYPE_CHECKING:
    from ws_gateway.tracing import GatewayTracing

log = logging.getLogger(__name__)

MAX_EARLY = 100
"""Reports, and changes, that may wait while a client's friends are being loaded."""
BACKLOG_DEADLINE_MS = 10_000
"""How long a client may leave its backlog unread before it is closed with 4413 (protocol §4)."""
PROBE_DEADLINE_MS = 8_000
"""How long a client to whom much is sent may take to answer a ping: so that a frozen one is gone within 15 s."""
DRAINED_AFTER_S = 1.0
"""How long after a stall a message may have lain in a buffer meanwhile."""
HEARTBEAT_INTERVALS = 0.9
"""How often an approximate location is published within a cell, in report intervals: better early than every second."""
AGE_SPREAD = 0.25
"""Connections that began together end apart: at their maximum age, ± this part of it."""
FAN_OUT_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)


class Gateway:
    """All connections of one process. Implements :class:`nearby.ports.PubSubListener`.

    ``tasks`` runs what waits for servers; ``clock`` gives Unix milliseconds. :meth:`connect_to` must be called with
    the router before the first client comes, since each needs the other. ``tracing`` is there only where traces are on.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        tracing: GatewayTracing | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.settings = settings
        self.hub = Hub(settings.cache.ttl_s * 1000, clock)
        self.outbox = Outbox(self.hub, later=loop.call_soon, clock=loop.time, stalled=self._stalled)
        self.connections: set[Connection] = set()
        self.emptied = asyncio.Event()
        self.emptied.set()
        self.devices: dict[bytes, Devices[Connection]] = {}
        """The connections of each user, by the user's location channel."""
        self.blocked_clients: set[Connection] = set()
        self.sightings = Sightings(self.hub, self._viewers, clock)
        self.fan_out_s = Histogram(FAN_OUT_BOUNDS_S)
        self.refused_counts: Counter[tuple[int, str]] = Counter()
        self.closed_counts: Counter[tuple[int, str]] = Counter()
        self.accepted_count = 0
        self.arrivals = Arrivals()
        self._tracing = tracing
        self._user_hash = UserHash(settings.log_user_key)
        self.report_count = 0
        self.acknowledged_count = 0
        self.unavailable_count = 0
        self.outdone_count = 0
        self.draining = False
        self.unreadable_count = 0
        self._admission = Admission(settings.admission, loop.time())
        self._now_s = loop.time
        self._first_version = 0
        self._stalled_at_s = -DRAINED_AFTER_S
        self._unshown: set[Connection] = set()
        self._clock = clock
        self.cache_clock = CacheClock(clock)
        self._tasks = tasks
        self._pubsub: PubSub
        self._directory: FriendDirectory
        self.pipeline: ReportPipeline
        self.feed: ChangeFeed
        self.batches: BatchQueue
        self.refresher: Refresher
        self._tier_changes: TierChanges

    def connect_to(
        self, pubsub: PubSub, cache: LocationCache, stream: HistoryStream, directory: FriendDirectory
    ) -> None:
        """Take the servers to work with."""
        self._pubsub = pubsub
        self._directory = directory
        self.feed = ChangeFeed(directory)
        heartbeat_ms = round(self.settings.limits.report_interval_s * HEARTBEAT_INTERVALS * 1000)
        self.pipeline = ReportPipeline(cache, stream, pubsub, self._clock, heartbeat_ms)
        self.batches = BatchQueue(stream)
        self.refresher = Refresher(self.hub, cache, self._clock, self.outbox.flush)
        self._tier_changes = TierChanges(self.hub, pubsub, self.refresher, self.outbox.flush, self._clock, self._tasks)
        self.hub.channels = self._tier_changes

    def _who(self, connection: Connection) -> dict[str, str]:
        """Return what a line of the log says about a connection."""
        user = {} if connection.viewer is None else {"user": self._user_hash(connection.viewer.user_id)}
        return {"connection_id": connection.connection_id, **user}

    def _viewers(self) -> list[Viewer]:
        return [connection.viewer for connection in self.connections if connection.viewer is not None]

    @property
    def connection_limit(self) -> int:
        """How many connections there may be."""
        limit = max(1, descriptors.limit() - descriptors.KEPT)
        return min(limit, self.settings.limits.max_connections or limit)

    @property
    def full(self) -> bool:
        """Whether the connection cap is reached."""
        return len(self.connections) >= self.connection_limit

    def not_ready(self) -> str | None:
        """Say why no new client should come here, ``None`` if one may."""
        if self.draining:
            return "draining"
        return "full" if self.full else None

    def refuse(self, address: str | None) -> Refusal | None:
        """Count an upgrade request of ``address``, ``None`` if not known; say why it is refused, if it is."""
        return self._admission.refuse(address, self._now_s())

    # ------------------------------------------------------------------------------------- connections

    def new_connection(self, token: AccessToken | None, codec: Codec) -> Connection:
        """Return a connection whose client chose ``codec`` on the upgrade, and showed ``token``, or none yet."""
        limits = self.settings.limits
        spread = random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)  # noqa: S311 - spreads load, guards nothing
        max_age_ms = round(limits.max_connection_age_s * spread * 1000)
        session = Session(self.settings.token_keys, limits, self._clock(), max_age_ms, codec)
        return Connection(self, session, f"c-{secrets.token_hex(6)}", token, codec)

    def opened(self, connection: Connection) -> None:
        """The socket of ``connection`` is open."""
        self.accepted_count += 1
        self.connections.add(connection)
        self.emptied.clear()
        if connection.upgrade_token is not None:
            token, connection.upgrade_token = connection.upgrade_token, None
            self._perform(connection, connection.session.admit(token))

    def received(self, connection: Connection, data: bytes) -> None:
        """Take one whole message."""
        self._perform(connection, connection.session.receive(data, self._clock(), self.cache_clock()))

    def pinged(self, connection: Connection, payload: bytes) -> None:
        """The client sent a WebSocket ping."""
        self._perform(connection, connection.session.ping(payload, self._clock()))

    def ponged(self, connection: Connection) -> None:
        """The client sent a WebSocket pong."""
        self._perform(connection, connection.session.pong(self._clock(), asked=connection.reads()))

    def fail(self, connection: Connection, code: CloseCode, reason: str) -> None:
        """Close ``connection``, which broke a rule of the transport."""
        self._perform(connection, connection.session.close(code, reason))

    def blocked(self, connection: Connection) -> None:
        """The client has left its backlog unread."""
        connection.blocked_at_ms = self._clock()
        self.blocked_clients.add(connection)

    def unblocked(self, connection: Connection) -> None:
        """The client has read its backlog."""
        self.blocked_clients.discard(connection)
        if connection.viewer is not None:
            self.outbox.resume(connection.viewer)

    def closed(self, connection: Connection, code: int, initiator: str) -> None:
        """The socket of ``connection`` is gone."""
        self.closed_counts[code, initiator] += 1
        self.connections.discard(connection)
        self.blocked_clients.discard(connection)
        self._unshown.discard(connection)
        if not self.connections:
            self.emptied.set()
        if log.isEnabledFor(logging.DEBUG):
            log.debug("closed with %d by the %s", code, initiator, extra=self._who(connection))
        viewer = connection.viewer
        if viewer is None:
            return
        channel = location_channel(viewer.user_id)
        devices = self.devices[channel]
        devices.left(connection)
        if not devices.connected:
            del self.devices[channel]
        self._pubsub.unsubscribe(self.hub.detach(viewer))
        self.sightings.left(viewer)
        if connection.listening:
            self._pubsub.unsubscribe([control_channel(viewer.user_id), channel])

    # ----------------------------------------------------------------------------------------- effects

    def _perform(self, connection: Connection, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    _send(connection, message)
                case Report():
                    self._report(connection, effect)
                case Close(code, reason):
                    connection.close(code, reason)
                case Ping():
                    connection.ping()
                case AnswerPing(payload):
                    connection.pong(payload)
                case Admit() | StoreBatch() | ChangeRadius() | Resync():
                    self._serve(connection, effect)

    def _serve(self, connection: Connection, request: Admit | StoreBatch | ChangeRadius | Resync) -> None:
        match request:
            case Admit(token):
                self._admit(connection, token)
            case StoreBatch():
                self._tasks.create_task(self._store(connection, request))
            case ChangeRadius(radius_m):
                assert connection.viewer is not None
                connection.viewer.set_radius(radius_m)
                self._show(connection)
            case Resync():
                self._show(connection)

    def _admit(self, connection: Connection, token: AccessToken) -> None:
        limits = self.settings.limits
        viewer = connection.viewer = Viewer(token.user_id, limits.radius_m, connection, connection.codec)
        same_user = self.devices.setdefault(location_channel(token.user_id), Devices()).connected
        if limits.connections_per_user and len(same_user) >= limits.connections_per_user:
            self.fail(same_user[0], CloseCode.REPLACED, "replaced by a newer connection")
        same_user.append(connection)
        _send(
            connection,
            Welcome(
                connection_id=connection.connection_id,
                user_id=token.user_id,
                gateway_id=self.settings.gateway_id,
                server_time_ms=self.cache_clock(),
                report_interval_s=limits.report_interval_s,
                inactive_after_s=self.settings.cache.ttl_s,
                radius_m=viewer.radius_m,
                expires_at_ms=token.expires_at_ms,
            ),
        )
        if log.isEnabledFor(logging.DEBUG):
            log.debug("arrives", extra=self._who(connection))
        self._tasks.create_task(self._arrive(connection, viewer, token))

    async def _arrive(self, connection: Connection, viewer: Viewer, token: AccessToken) -> None:
        """Load the friends of a new client and show them (design §4)."""
        began_s = self._now_s()
        try:
            with self._step("connect"):
                end = await self._load(connection, viewer, token)
        except StoreUnavailable as error:
            end = ArrivalEnd.UNAVAILABLE
            log.warning("arrival: %s", error, extra=self._who(connection))
            self.fail(connection, CloseCode.TRY_AGAIN_LATER, "try again later")
        except Exception:
            end = ArrivalEnd.FAILED
            log.exception("arrival failed", extra=self._who(connection))
            self.fail(connection, CloseCode.SERVER_ERROR, "server error")
        if end is ArrivalEnd.LEFT and connection.closed_with is CloseCode.TRY_AGAIN_LATER:
            end = ArrivalEnd.UNAVAILABLE
        self.arrivals.ended(end, self._now_s() - began_s)

    async def _load(self, connection: Connection, viewer: Viewer, token: AccessToken) -> ArrivalEnd:
        if not connection.is_open():
            return ArrivalEnd.LEFT
        # Listen for changes before reading the list, so that none falls between.
        connection.listening = True
        own = [control_channel(viewer.user_id), location_channel(viewer.user_id)]
        with self._step("subscribe to oneself"):
            self._pubsub.subscribe(own)
            await self._pubsub.confirmed(own)
        with self._step("read the friend list"):
            await self.feed.begin()
            friends = await self._directory.friend_list(viewer.user_id)
        if not connection.is_open():
            return ArrivalEnd.LEFT
        if friends is None or token.issued_at_ms < friends.tokens_valid_from_ms:
            self.fail(connection, CloseCode.NOT_ALLOWED, "no longer allowed")
            return ArrivalEnd.NOT_ALLOWED
        channels = self.hub.attach(viewer, friends)
        self._tier_changes.arm()
        with self._step("subscribe to friends"):
            self._pubsub.subscribe(channels)
            await self._pubsub.confirmed(channels)
        with self._step("read the cache"):
            last = await self.refresher.arrive(viewer)
        if not connection.is_open():
            return ArrivalEnd.LEFT
        self._begin(connection, viewer, last)
        return ArrivalEnd.SERVED

    def _step(self, name: str) -> AbstractContextManager[object]:
        return nullcontext() if self._tracing is None else self._tracing.step(name)

    def _begin(self, connection: Connection, viewer: Viewer, last: CachedLocation | None) -> None:
        """The friends are loaded: see to what came in meanwhile, then show the map."""
        arrival, connection.arrival = connection.arrival, None
        assert arrival is not None
        for change in arrival.changes:
            self._apply_to(connection, change)
        if last is not None:
            viewer.version = max(viewer.version, last.record.version)
            connection.session.last_known(last.record.location)
            if not viewer.located:  # another device of theirs may have reported meanwhile
                self.hub.move(viewer, last.record.lat_deg, last.record.lon_deg)
        self._show(connection)
        for report in arrival.reports:
            self._report(connection, report)

    def _show(self, connection: Connection) -> None:
        """Send a snapshot, once friends and the client's own location are known."""
        viewer = connection.viewer
        if viewer is None or not viewer.located or connection.arrival is not None:
            return
        if not self.outbox.may_send():
            self._unshown.add(connection)
        else:
            viewer.live = True
            self.hub.advance()
            self.hub.mark_moved()  # of which the snapshot already tells this viewer
            connection.send_frame(connection.codec.snapshot(viewer.snapshot()))

    # ----------------------------------------------------------------------------------------- reports

    def _report(self, connection: Connection, report: Report) -> None:
        assert connection.viewer is not None
        arrival = connection.arrival
        if arrival is None:
            self.report_count += 1
            done: Callable[[Outcome], None] = partial(self._reported, connection, report)
            if self._tracing is not None:
                channel = location_channel(connection.viewer.user_id)
                done = self._tracing.report(channel, report.location.recorded_at_ms, done)
            live = not report.flagged and self._wins(connection, connection.viewer, report)
            self.pipeline.submit(PendingReport(connection.viewer, report.location, report.flagged, live, done))
        elif len(arrival.reports) < MAX_EARLY:
            arrival.reports.append(report)
        else:
            _send(connection, Error("unavailable", "still connecting; send again", report.seq))

    def _wins(self, connection: Connection, viewer: Viewer, report: Report) -> bool:
        """Whether the report may become the user's live location, as far as their other devices go."""
        first, connection.has_reported = not connection.has_reported, True
        devices = self.devices.get(location_channel(viewer.user_id))
        if devices is None or devices.wins(connection, report.location, self._clock(), first=first):
            return True
        self.outdone_count += 1
        return False

    def _reported(self, connection: Connection, report: Report, outcome: Outcome) -> None:
        location = report.location
        if outcome.stored:
            self.acknowledged_count += 1
            _send(connection, Ack(report.seq, location.recorded_at_ms, outcome.shown))
        else:
            self.unavailable_count += 1
            _send(connection, Error("unavailable", "not stored; send again", report.seq))
        if outcome.shown and connection.viewer is not None:
            devices = self.devices.get(location_channel(connection.viewer.user_id))
            if devices is not None:
                now_ms = self._clock()
                here = connection in devices.connected
                if devices.took(connection, location, now_ms) if here else devices.took_of_one_gone(location, now_ms):
                    self._move(devices, location)
            self.outbox.schedule()

    def _move(self, devices: Devices[Connection], location: Location) -> None:
        """Show every device of a user their friends from ``location``."""
        for device in devices.connected:
            if device.viewer is not None:
                self.hub.move(device.viewer, location.lat_deg, location.lon_deg)
                if not device.viewer.live:
                    self._show(device)

    async def _store(self, connection: Connection, batch: StoreBatch) -> None:
        assert connection.viewer is not None
        points = history_points(((connection.viewer, point, False) for point in batch.points), self._clock())
        if await self.batches.store(points):
            _send(connection, Ack(batch.seq, stored=len(points), rejected=list(batch.rejected)))
        else:
            _send(connection, Error("unavailable", "not stored; send again", batch.seq))

    # ----------------------------------------------------------------------------------------- pub/sub

    def on_message(self, channel: bytes, payload: bytes) -> None:
        """Take a location record or a change; see the port."""
        try:
            if is_location(channel):
                self._on_location(channel, unpack(payload))
            else:
                self.apply(changes.decode(payload))
        except (RecordError, msgspec.MsgspecError) as error:
            # A newer version may write what we cannot read yet; the cache and the feed say it again.
            self.unreadable_count += 1
            log.warning("unreadable message: %s", error)

    def _on_location(self, channel: bytes, record: LocationRecord) -> None:
        if not self._first_version:
            self._first_version = record.version
        if self._tracing is not None:
            self._tracing.heard(channel, record.recorded_at_ms)
        if self.outbox.held and self._now_s() - self._stalled_at_s < DRAINED_AFTER_S:
            # It may have lain in a buffer for as long as we stood still; the cache knows how long it lives.
            self.hub.observe(channel, record, self._clock(), 0)
            self.refresher.later([channel])
        else:
            self.hub.observe(channel, record, self._clock())
        devices = self.devices.get(channel)
        if devices is not None:
            for device in devices.connected:
                if device.viewer is not None:
                    device.viewer.version = max(device.viewer.version, record.version)
            if devices.took(None, record.location, self._clock()):
                self._move(devices, record.location)

    def on_burst_end(self) -> None:
        """Send what the messages of one read changed; see the port."""
        self.outbox.burst_ended()
        if self._tracing is not None:
            self._tracing.flushed()
        if self._first_version and not len(self.outbox):
            # One observation a burst, of the record that has waited for longest; the version is the cache's time in µs.
            self.fan_out_s.observe(max(0.0, (self.cache_clock() * 1000 - self._first_version) / 1e6))
            self._first_version = 0

    def on_gap(self, channels: Sequence[bytes]) -> None:
        """Read again what may have been missed; see the port. The change feed covers control channels."""
        self.refresher.later(channel for channel in channels if is_location(channel))

    # ----------------------------------------------------------------------------------------- changes

    def apply(self, change: Change) -> None:
        """Enforce ``change`` for every client it concerns. Applying it again does nothing."""
        if isinstance(change, Unreadable):
            self.unreadable_count += 1
            log.warning("change %d is of a kind that only newer gateways know", change.sequence)
            return
        if isinstance(change, SharingChanged):
            self.hub.set_sharing(change.user_id, change.sharing, change.sequence, change.limits)
        for user_id in changes.concerns(change):
            devices = self.devices.get(location_channel(user_id))
            for connection in list(devices.connected) if devices else ():
                if connection.arrival is None:
                    self._apply_to(connection, change)
                elif len(connection.arrival.changes) < MAX_EARLY:
                    connection.arrival.changes.append(change)
                else:
                    self.fail(connection, CloseCode.TRY_AGAIN_LATER, "try again later")
        self._tier_changes.arm()
        self.outbox.schedule()

    def _apply_to(self, connection: Connection, change: Change) -> None:
        viewer = connection.viewer
        assert viewer is not None
        match change:
            case FriendshipChanged():
                self._befriend(connection, viewer, change)
            case SharingChanged(sequence, _, sharing, limits):
                viewer.audience.say(sharing, limits, sequence)
            case HistoryRetentionChanged(sequence, _, retention_s):
                if sequence > viewer.history_retention[0]:
                    viewer.history_retention = (sequence, retention_s)
            case TokensRevoked(valid_from_ms=valid_from_ms):
                token = connection.session.token
                if token is None or token.issued_at_ms < valid_from_ms:
                    self.fail(connection, CloseCode.NOT_ALLOWED, "logged out")

    def _befriend(self, connection: Connection, viewer: Viewer, change: FriendshipChanged) -> None:
        """Let what is between this viewer and a friend be as ``change`` tells, unless something newer is known."""
        edge = edge_of(change, viewer.user_id)
        if not viewer.is_news(edge.user_id, change.sequence):
            return
        viewer.touched[edge.user_id] = change.sequence
        if not change.friends:
            if edge.user_id in viewer.friends:
                channel = self.hub.remove_friend(viewer, edge.user_id, GoneReason.REMOVED)
                if channel is not None:
                    self._pubsub.unsubscribe([channel])
                _send(connection, FriendsChanged([], [edge.user_id]))
        elif edge.user_id in viewer.friends:
            self.hub.change_friend(viewer, edge)
        else:
            entry = self.hub.add_friend(viewer, edge)
            if entry.tier is not Tier.OFF:
                self._tier_changes.wanted(entry.channel)
            _send(connection, FriendsChanged([edge.user_id], []))

    def start_over(self) -> None:
        """Have every client come anew: changes of their friendships may have been missed."""
        for connection in list(self.connections):
            self.fail(connection, CloseCode.TRY_AGAIN_LATER, "try again later")

    # ------------------------------------------------------------------------------------------ upkeep

    async def sweep(self) -> None:
        """See to what is due by the clock; to be called about once a second."""
        self.outbox.may_send()  # before anybody is told that they were silent while we stood still
        now_ms = self._clock()
        turn_s = self._now_s()
        for connection in list(self.connections):
            if self._now_s() - turn_s >= BUDGET_S:
                await asyncio.sleep(0)  # ten thousand connections in one turn would hold up the loop
                turn_s = self._now_s()
            self._perform(connection, connection.session.tick(now_ms))
            connection.probe(now_ms)
            connection.reap()
            if _passed(connection.blocked_at_ms, BACKLOG_DEADLINE_MS, now_ms) or _passed(
                connection.probed_at_ms, PROBE_DEADLINE_MS, now_ms
            ):
                self.fail(connection, CloseCode.TOO_SLOW, "too slow")
        self.hub.expire(now_ms)
        self._tier_changes.arm()
        self.outbox.flush()

    def _stalled(self) -> None:
        """This process stood still: what it knows may have expired, and its clients had no chance to be heard."""
        log.warning("stood still for seconds; %d locations are read again", len(self.hub.entries))
        self._stalled_at_s = self._now_s()
        now_ms = self._clock()
        for connection in self.connections:
            connection.session.seen(now_ms)
            connection.stalled(now_ms)
        self.refresher.later(self.hub.doubt())
        self._tasks.create_task(self._recover())

    async def _recover(self) -> None:
        await self.refresher.settled()
        self.hub.settle(self._clock())
        self.outbox.release()
        unshown, self._unshown = self._unshown, set()
        for connection in unshown:
            self._show(connection)


def _send(connection: Connection, message: ServerMessage) -> None:
    connection.send_frame(connection.codec.encode(message))


def _passed(since_ms: int | None, deadline_ms: int, now_ms: int) -> bool:
    return since_ms is not None and now_ms - since_ms >= deadline_ms
