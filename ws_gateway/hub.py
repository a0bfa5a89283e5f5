"""Who is watching whom, and what each viewer's map should show. Pure.

Each location channel with a local viewer has one :class:`Entry`: the friend's last record, worked out once for all who
watch it. Whatever changes (the friend moves, the viewer moves, sharing is paused, an entry expires) only *marks*
the pair; the outbox later compares what the viewer's map shows with what it should show, by :meth:`Viewer.changes`.
So under load several changes of a pair cost one comparison, the latest wins, and memory is bounded by the number of
friends.

Invariants:

* A viewer's map never shows a friend who is not in ``viewer.friends``, does not share, or has expired.
* Per viewer and friend ``updated_at_ms`` never goes back: :meth:`Hub.observe` refuses what is not newer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import asin, sqrt
from typing import Protocol

import msgspec

from nearby.channels import location_channel
from nearby.geo import EARTH_DIAMETER_M, HYSTERESIS, squared_chord_of, unit_vector
from nearby.model import FriendList, GoneReason, Precision, UserId
from nearby.record import LocationRecord

Vector = tuple[float, float, float]

MAX_SWITCHES = 10_000
"""Sharing switches remembered: far more than are set while a friend list is on its way."""

_encode = msgspec.json.Encoder().encode


class Entry:
    """One friend, as every local viewer of theirs sees them.

    ``viewers`` tells for each whether their map shows this friend now. ``expires_at_ms`` is by the caller's clock, as
    is ``heard_ms``, when this friend was last heard of.
    ``fresh`` means that nothing published since the last reading of the cache can have been missed.
    """

    __slots__ = (
        "_fragment",
        "channel",
        "expires_at_ms",
        "expiry_second",
        "fresh",
        "heard_ms",
        "record",
        "sharing",
        "switch_sequence",
        "user_id",
        "vector",
        "viewers",
    )

    def __init__(self, user_id: UserId) -> None:
        self.user_id = user_id
        self.channel = location_channel(user_id)
        self.record: LocationRecord | None = None
        self.vector: Vector = (0.0, 0.0, 0.0)
        self.viewers: dict[Viewer, bool] = {}
        self.sharing = True
        self.switch_sequence = 0
        self.expires_at_ms = 0
        self.expiry_second = 0
        self.heard_ms = 0
        self.fresh = False
        self._fragment: bytes | None = None

    def show(self, record: LocationRecord | None, expires_at_ms: int) -> None:
        """Let ``record`` be this friend's location, ``None`` for unknown."""
        self.record = record
        self._fragment = None
        self.expires_at_ms = expires_at_ms
        if record is not None:
            self.vector = unit_vector(record.lat_deg, record.lon_deg)

    @property
    def fragment(self) -> bytes:
        """The JSON of the friend entry up to the distance, encoded once per record."""
        if self._fragment is None:
            record = self.record
            assert record is not None
            fields: dict[str, object] = {
                "user_id": self.user_id,
                "lat": record.lat_deg,
                "lon": record.lon_deg,
                "updated_at_ms": record.recorded_at_ms,
                "precision": Precision.EXACT.value,
            }
            if record.accuracy_m is not None:
                fields["accuracy_m"] = round(record.accuracy_m, 1)
            if record.speed_mps is not None:
                fields["speed_mps"] = record.speed_mps
            if record.heading_deg is not None:
                fields["heading_deg"] = record.heading_deg
            self._fragment = _encode(fields)[:-1] + b',"distance_m":'
        return self._fragment


@dataclass(slots=True)
class Changes:
    """What must be sent to bring a viewer's map up to date: encoded friend entries, and who has gone."""

    friends: list[bytes]
    gone: dict[UserId, GoneReason]


class Client(Protocol):
    """Where a viewer's frames go. ``writable`` is false while the client does not take what it was sent."""

    writable: bool

    def send_frame(self, frame: bytes) -> None:
        """Send one text frame."""


class _Nobody:
    """The client of a viewer that has gone."""

    writable = False

    def send_frame(self, frame: bytes) -> None:
        pass


_NOBODY = _Nobody()


class Viewer:
    """One connected client looking at its map.

    ``live`` begins with its first snapshot; until then nothing is marked. ``pending`` holds the marked entries.
    """

    __slots__ = (
        "_enter_squared",
        "_leave_squared",
        "client",
        "friends",
        "gone",
        "history_retention",
        "list_sequence",
        "live",
        "pending",
        "queued",
        "radius_m",
        "sharing",
        "switch_sequence",
        "touched",
        "user_id",
        "vector",
    )

    def __init__(self, user_id: UserId, radius_m: float, client: Client) -> None:
        self.user_id = user_id
        self.client = client
        self.friends: dict[UserId, Entry] = {}
        self.vector: Vector | None = None
        self.live = False
        self.queued = False
        self.pending: dict[Entry, None] = {}
        self.gone: dict[UserId, GoneReason] = {}
        self.sharing = True
        self.switch_sequence = 0
        self.list_sequence = 0
        # The row of the feed that set it, and the seconds: 0, nothing is kept; None, as long as by default.
        self.history_retention: tuple[int, int | None] = (0, None)
        self.touched: dict[UserId, int] = {}
        self.set_radius(radius_m)

    def set_radius(self, radius_m: float) -> None:
        """Show friends within ``radius_m`` metres; they leave beyond 1.1 times that."""
        self.radius_m = radius_m
        self._enter_squared = squared_chord_of(radius_m)
        self._leave_squared = squared_chord_of(radius_m * HYSTERESIS)

    def set_sharing(self, sharing: bool, sequence: int) -> None:
        """Note whether this viewer's user shares their own location, as of row ``sequence`` of the feed."""
        if sequence >= self.switch_sequence:
            self.sharing, self.switch_sequence = sharing, sequence

    def changes(self, entries: Iterable[Entry]) -> Changes:
        """Return how the map must change for ``entries``, and take it as changed."""
        assert self.vector is not None
        x, y, z = self.vector
        friends: list[bytes] = []
        gone, self.gone = self.gone, {}
        for entry in entries:
            shown = entry.viewers.get(self)
            if shown is None:
                continue  # unfriended since it was marked
            if entry.record is None or not entry.sharing:
                if shown:
                    entry.viewers[self] = False
                    gone[entry.user_id] = GoneReason.INACTIVE
                continue
            fx, fy, fz = entry.vector
            fx -= x
            fy -= y
            fz -= z
            squared = fx * fx + fy * fy + fz * fz
            if squared <= (self._leave_squared if shown else self._enter_squared):
                distance_m = int(EARTH_DIAMETER_M * asin(min(1.0, sqrt(squared) / 2)) + 0.5)
                friends.append(b"%b%d}" % (entry.fragment, distance_m))
                if not shown:
                    entry.viewers[self] = True
                    gone.pop(entry.user_id, None)
            elif shown:
                entry.viewers[self] = False
                gone[entry.user_id] = GoneReason.OUT_OF_RANGE
        return Changes(friends, gone)

    def snapshot(self) -> list[bytes]:
        """Return the encoded entries of everybody now nearby, and take the map as showing just them."""
        self.pending.clear()
        self.gone.clear()
        for entry in self.friends.values():
            entry.viewers[self] = False
        return self.changes(self.friends.values()).friends

    def is_news(self, friend_id: UserId, sequence: int) -> bool:
        """Whether row ``sequence`` of the change feed says something newer about the friendship."""
        return sequence > max(self.list_sequence, self.touched.get(friend_id, 0))


class Hub:
    """All entries and viewers of one gateway. Marked viewers wait in ``queue`` for the outbox."""

    def __init__(self, ttl_ms: int) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.queue: list[Viewer] = []
        self.marked_count = 0
        self.switches: dict[UserId, tuple[int, bool]] = {}
        """The newest switches heard of, whoever watches: (row of the change feed, sharing)."""
        self._ttl_ms = ttl_ms
        # By the second in which to look again; an entry is in exactly one while it has a record. One that is renewed
        # stays where it is and moves when its second comes, so a renewal costs nothing here.
        self._expiring: dict[int, dict[Entry, None]] = {}

    # ------------------------------------------------------------------------------------- friendships

    def attach(self, viewer: Viewer, friends: FriendList) -> list[bytes]:
        """Let ``viewer`` watch ``friends``; return the channels to subscribe to."""
        viewer.list_sequence = friends.sequence
        viewer.set_sharing(friends.sharing, friends.sequence)
        viewer.history_retention = (friends.sequence, friends.history_retention_s)
        return [
            self.add_friend(viewer, edge.user_id, edge.sharing, edge.switch_sequence).channel
            for edge in friends.friends
        ]

    def add_friend(self, viewer: Viewer, friend_id: UserId, sharing: bool, switch_sequence: int) -> Entry:
        """Let ``viewer`` watch ``friend_id`` too."""
        channel = location_channel(friend_id)
        entry = self.entries.get(channel)
        if entry is None:
            entry = self.entries[channel] = Entry(friend_id)
            # The list may have been read before a switch that we have heard of since.
            newest = max((switch_sequence, sharing), self.switches.get(friend_id, (-1, False)))
            entry.switch_sequence, entry.sharing = newest
        else:
            self.set_sharing(friend_id, sharing, switch_sequence)
        entry.viewers.setdefault(viewer, False)
        viewer.friends[entry.user_id] = entry
        if viewer.live and entry.record is not None:
            viewer.pending[entry] = None
            self._enqueue(viewer)
        return entry

    def remove_friend(self, viewer: Viewer, friend_id: UserId, reason: GoneReason) -> bytes | None:
        """Let ``viewer`` watch ``friend_id`` no longer; return the channel to unsubscribe from, if any."""
        entry = viewer.friends.pop(friend_id, None)
        if entry is None:
            return None
        viewer.pending.pop(entry, None)
        if self._forget(entry, viewer):
            viewer.gone[friend_id] = reason
            self._enqueue(viewer)
        return entry.channel

    def detach(self, viewer: Viewer) -> list[bytes]:
        """Forget ``viewer``, for good; return the channels to unsubscribe from."""
        entries = list(viewer.friends.values())
        for entry in entries:
            self._forget(entry, viewer)
        viewer.friends.clear()
        viewer.pending.clear()
        viewer.live = False
        viewer.client = _NOBODY  # who knows the viewer, and so would go only when the garbage collector finds them
        return [entry.channel for entry in entries]

    def _forget(self, entry: Entry, viewer: Viewer) -> bool:
        shown = entry.viewers.pop(viewer, False)
        if not entry.viewers:
            del self.entries[entry.channel]
            if entry.record is not None:
                del self._expiring[entry.expiry_second][entry]
        return shown

    def set_sharing(self, user_id: UserId, sharing: bool, sequence: int) -> None:
        """Note that ``user_id`` resumed or paused sharing with everyone, by row ``sequence`` of the feed."""
        if sequence > self.switches.get(user_id, (-1, False))[0]:
            self.switches.pop(user_id, None)  # so that the newest stand last
            self.switches[user_id] = (sequence, sharing)
            if len(self.switches) > MAX_SWITCHES:
                del self.switches[next(iter(self.switches))]
        entry = self.entries.get(location_channel(user_id))
        if entry is not None and sequence > entry.switch_sequence:
            entry.sharing, entry.switch_sequence = sharing, sequence
            self._mark_viewers(entry)

    # --------------------------------------------------------------------------------------- locations

    def observe(self, channel: bytes, record: LocationRecord, now_ms: int, remaining_ms: int | None = None) -> bool:
        """Take a friend's ``record``, which lives ``remaining_ms`` more, the whole TTL if not given.

        Return false for one that is not newer than what is known: a duplicate, or late.
        """
        entry = self.entries.get(channel)
        if entry is None:
            return False
        known = entry.record
        expires_at_ms = now_ms + (self._ttl_ms if remaining_ms is None else remaining_ms)
        if known is not None and record.recorded_at_ms <= known.recorded_at_ms:
            if remaining_ms and record.recorded_at_ms == known.recorded_at_ms:
                entry.expires_at_ms = expires_at_ms  # the cache knows best
            return False
        entry.show(record, expires_at_ms)
        entry.heard_ms = now_ms
        if known is None:
            self._look_again(entry)
        self._mark_viewers(entry)
        return True

    def move(self, viewer: Viewer, lat_deg: float, lon_deg: float) -> None:
        """Note that ``viewer`` is now at this place: the distance to every friend has changed."""
        viewer.vector = unit_vector(lat_deg, lon_deg)
        if viewer.live:
            known = [entry for entry in viewer.friends.values() if entry.record is not None]
            viewer.pending.update(dict.fromkeys(known))
            self.marked_count += len(known)
            if known:
                self._enqueue(viewer)

    def expire(self, now_ms: int) -> None:
        """Let every entry whose time is up leave the maps."""
        now_s = now_ms // 1000
        for second in [second for second in self._expiring if second <= now_s]:
            for entry in self._expiring.pop(second):
                if entry.expires_at_ms > now_ms:
                    self._look_again(entry)
                else:
                    entry.show(None, 0)
                    self._mark_viewers(entry)

    def doubt(self) -> list[bytes]:
        """Take every location as expired, though nobody is told yet; return the channels to read again.

        What the cache still has must then be observed, before :meth:`settle` lets the rest leave the maps.
        """
        for entry in self.entries.values():
            entry.expires_at_ms = 0
        return list(self.entries)

    def settle(self, now_ms: int) -> None:
        """Let every entry whose time is up leave the maps, those in doubt included."""
        for entry in self.entries.values():
            if entry.record is not None and entry.expires_at_ms <= now_ms:
                del self._expiring[entry.expiry_second][entry]
                entry.show(None, 0)
                self._mark_viewers(entry)

    def _look_again(self, entry: Entry) -> None:
        entry.expiry_second = entry.expires_at_ms // 1000 + 1
        self._expiring.setdefault(entry.expiry_second, {})[entry] = None

    # ------------------------------------------------------------------------------------------- marks

    def _mark_viewers(self, entry: Entry) -> None:
        queue = self.queue
        count = 0
        for viewer in entry.viewers:
            if viewer.live:
                viewer.pending[entry] = None
                count += 1
                if not viewer.queued:
                    viewer.queued = True
                    queue.append(viewer)
        self.marked_count += count

    def _enqueue(self, viewer: Viewer) -> None:
        if viewer.live and not viewer.queued:
            viewer.queued = True
            self.queue.append(viewer)


def encode_snapshot(friends: Sequence[bytes]) -> bytes:
    """Return a ``snapshot`` frame of encoded friend entries."""
    return b'{"type":"snapshot","friends":[%b]}' % b",".join(friends)


def encode_update(changes: Changes) -> bytes | None:
    """Return an ``update`` frame, or ``None`` if nothing changed."""
    if changes.gone:
        gone = b",".join(
            b'{"user_id":"%b","reason":"%b"}' % (user_id.encode(), reason.value.encode())
            for user_id, reason in changes.gone.items()
        )
        if changes.friends:
            return b'{"type":"update","friends":[%b],"gone":[%b]}' % (b",".join(changes.friends), gone)
        return b'{"type":"update","gone":[%b]}' % gone
    if changes.friends:
        return b'{"type":"update","friends":[%b]}' % b",".join(changes.friends)
    return None
