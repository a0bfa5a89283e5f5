"""One connected client looking at its map: what the map shows and what it should show. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import asin, sqrt
from typing import Protocol

from nearby.codecs import JSON, Codec
from nearby.geo import EARTH_DIAMETER_M, HYSTERESIS, shown_distance_m, squared_chord_of
from nearby.model import GoneReason, UserId
from nearby.sharing import TierPlan
from ws_gateway.audience import Audience
from ws_gateway.entry import Entry, Vector


@dataclass(slots=True)
class Changes:
    """What must be sent to bring a viewer's map up to date: encoded friend entries, and who has gone."""

    friends: list[bytes]
    gone: dict[UserId, GoneReason]


class Client(Protocol):
    """Where a viewer's frames go. ``writable`` is false while the client does not take what it was sent."""

    writable: bool

    def send_frame(self, frame: bytes) -> None:
        """Send one frame of the viewer's codec."""


class _Nobody:
    """The client of a viewer that has gone."""

    writable = False

    def send_frame(self, frame: bytes) -> None:
        pass


NOBODY = _Nobody()


class Viewer:
    """One connected client looking at its map.

    ``vector`` is where they are, once they are ``located``. ``live`` begins with their first snapshot; until then
    nothing is marked. ``pending`` holds the marked entries.
    ``friends`` has each friend's entry at the tier at which this viewer may see them now; ``plans`` how that tier
    changes, for those friends who said something special. ``audience`` is who may see the viewer's own user.
    ``saw`` has the friends who were shown and are not any more, until somebody has noted them.
    ``version`` is the newest that was heard of among the versions of the viewer's own locations.
    ``codec`` is the client's.
    """

    __slots__ = (
        "_enter_squared",
        "audience",
        "client",
        "codec",
        "friends",
        "gone",
        "history_retention",
        "leave_squared",
        "list_sequence",
        "live",
        "located",
        "pending",
        "plans",
        "queued",
        "radius_m",
        "saw",
        "touched",
        "user_id",
        "vector",
        "version",
    )

    def __init__(self, user_id: UserId, radius_m: float, client: Client, codec: Codec = JSON) -> None:
        self.user_id = user_id
        self.client = client
        self.codec = codec
        self.friends: dict[UserId, Entry] = {}
        self.located = False
        self.vector: Vector = (0.0, 0.0, 0.0)
        self.live = False
        self.queued = False
        self.pending: dict[Entry, None] = {}
        self.gone: dict[UserId, GoneReason] = {}
        self.plans: dict[UserId, TierPlan] = {}
        self.audience = Audience()
        self.list_sequence = 0
        # The row of the feed that set it, and the seconds: 0, nothing is kept; None, as long as by default.
        self.history_retention: tuple[int, int | None] = (0, None)
        self.touched: dict[UserId, int] = {}
        self.version = 0
        self.saw: dict[UserId, None] = {}
        self.set_radius(radius_m)

    def set_radius(self, radius_m: float) -> None:
        """Show friends within ``radius_m`` metres; they leave beyond 1.1 times that."""
        self.radius_m = radius_m
        self._enter_squared = squared_chord_of(radius_m)
        self.leave_squared = squared_chord_of(radius_m * HYSTERESIS)

    def changes(self, entries: Iterable[Entry]) -> Changes:
        """Return how the map must change for ``entries``, and take it as changed."""
        assert self.located
        x, y, z = self.vector
        codec = self.codec
        place, ends = codec.place, codec.ends
        friends: list[bytes] = []
        gone, self.gone = self.gone, {}
        for entry in entries:
            shown = entry.viewers.get(self)
            if shown is None:
                continue  # unfriended since it was marked
            if entry.record is None or not entry.sharing:
                if shown:
                    entry.viewers[self] = False
                    self.saw[entry.user_id] = None
                    gone[entry.user_id] = GoneReason.INACTIVE
                continue
            fx, fy, fz = entry.vector
            fx -= x
            fy -= y
            fz -= z
            squared = fx * fx + fy * fy + fz * fz
            if squared <= (self.leave_squared if shown else self._enter_squared):
                metres = EARTH_DIAMETER_M * asin(sqrt(squared) * 0.5)  # within a radius, so never beyond 1
                distance_m = int(metres + 0.5) if entry.exact else shown_distance_m(metres, exact=False)
                friends.append((entry.fragments[place] or entry.encode(codec)) + ends[distance_m])
                if not shown:
                    entry.viewers[self] = True
                    gone.pop(entry.user_id, None)
            elif shown:
                entry.viewers[self] = False
                self.saw[entry.user_id] = None
                gone[entry.user_id] = GoneReason.OUT_OF_RANGE
        return Changes(friends, gone)

    def snapshot(self) -> list[bytes]:
        """Return the encoded entries of everybody now nearby, and take the map as showing just them."""
        self.pending.clear()
        self.gone.clear()
        for entry in self.friends.values():
            if entry.viewers[self]:
                self.saw[entry.user_id] = None
            entry.viewers[self] = False
        return self.changes(self.friends.values()).friends

    def is_news(self, friend_id: UserId, sequence: int) -> bool:
        """Whether row ``sequence`` of the change feed says something newer about the friendship."""
        return sequence > max(self.list_sequence, self.touched.get(friend_id, 0))
