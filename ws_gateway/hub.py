"""Who is watching whom, and what each viewer's map should show. Pure.

Each location channel with a local viewer has one :class:`Entry`: the friend's last record, worked out once for all who
watch it. Whatever changes (the friend moves, the viewer moves, sharing is paused, an entry expires) only *marks*
the pair; the outbox later compares what the viewer's map shows with what it should show, by :meth:`Viewer.changes`.
So under load several changes of a pair cost one comparison, the latest wins, and memory is bounded by the number of
friends. Friends who move are at first noted only, in ``moved``: the outbox marks their viewers, or tells them at once.

A friend has one entry per tier. Which of them a viewer watches is decided here, by :meth:`Hub._place`, and nowhere
else; what is due by the clock, :meth:`Hub.advance` does, which whoever is about to send calls first.

Invariants:

* A viewer's map never shows a friend who is not in ``viewer.friends``, does not share, or has expired.
* A viewer watches a friend at the tier that both the friend's plan for this viewer and what the friend says to everyone
  allow, as of the last :meth:`Hub.advance`; only an exact entry holds an exact location.
* Per viewer and friend ``updated_at_ms`` never goes back: :meth:`Hub.observe` refuses what is not newer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from nearby.channels import location_channel
from nearby.geo import unit_vector
from nearby.model import FriendEdge, FriendList, GoneReason, UserId
from nearby.ports import Clock
from nearby.record import LocationRecord
from nearby.sharing import EXACT, NO_LIMITS, Limits, Tier
from ws_gateway.entry import APPROXIMATE, FROM_THE_START, OFF, UNHEARD, Entry, Said, channel_of
from ws_gateway.viewer import NOBODY, Viewer

MAX_SWITCHES = 10_000
"""What users said to everyone, remembered: far more than is said while a friend list is on its way."""

NEVER_MS = 2**63
TIERS = tuple(Tier)


class Channels(Protocol):
    """What follows when viewers change from one entry to another; told at once, so that the counts stay right."""

    def wanted(self, channel: bytes) -> None:
        """One more viewer watches ``channel``."""

    def unwanted(self, channel: bytes) -> None:
        """One viewer fewer watches ``channel``."""

    def reopened(self, channel: bytes) -> None:
        """The friend behind ``channel`` shares again; where they went meanwhile was not published."""


class _NoChannels:
    def wanted(self, channel: bytes) -> None:
        pass

    def unwanted(self, channel: bytes) -> None:
        pass

    def reopened(self, channel: bytes) -> None:
        pass


class Hub:
    """All entries and viewers of one gateway. Marked viewers wait in ``queue`` for the outbox."""

    def __init__(self, ttl_ms: int, clock: Clock = lambda: 0) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.hidden: dict[bytes, Entry] = {}
        """Of friends who do not let the viewers in it see them at all."""
        self.channels: Channels = _NoChannels()
        self.queue: list[Viewer] = []
        self.moved: dict[Entry, None] = {}
        """Friends who were observed somewhere else; their viewers are marked by :meth:`mark_moved`."""
        self.marked_count = 0
        self.switches: dict[UserId, Said] = {}
        """What was newest said to everyone, whoever watches."""
        self.next_ms = NEVER_MS
        """When :meth:`advance` will have something to do, or earlier."""
        self._clock = clock
        self._ttl_ms = ttl_ms
        self._timed_pairs: dict[tuple[Viewer, UserId], int] = {}
        self._timed_users: dict[UserId, int] = {}
        # By the second in which to look again; an entry is in exactly one while it has a record. One that is renewed
        # stays where it is and moves when its second comes, so a renewal costs nothing here.
        self._expiring: dict[int, dict[Entry, None]] = {}

    # ------------------------------------------------------------------------------------- friendships

    def attach(self, viewer: Viewer, friends: FriendList) -> list[bytes]:
        """Let ``viewer`` watch ``friends``; return the channels to subscribe to."""
        viewer.list_sequence = friends.sequence
        viewer.audience.say(friends.sharing, friends.limits, friends.sequence)
        viewer.history_retention = (friends.sequence, friends.history_retention_s)
        entries = [self.add_friend(viewer, edge) for edge in friends.friends]
        return [entry.channel for entry in entries if entry.tier is not OFF]

    def add_friend(self, viewer: Viewer, edge: FriendEdge) -> Entry:
        """Let ``viewer`` watch one more friend, at the tier at which they may; return the entry."""
        viewer.audience.let(edge.user_id, edge.sees, new=True)
        entry = self.entries.get(location_channel(edge.user_id)) if edge.shows is EXACT else None
        if entry is None or entry.ceiling is APPROXIMATE or edge.switch_sequence > entry.said.sequence:
            entry = self._watch_new(viewer, edge)
        else:  # as it mostly is: somebody here watches them already, and nothing special was said
            entry.viewers[viewer] = False
            viewer.friends[entry.user_id] = entry  # not a string of its own for each viewer
        if viewer.live and entry.record is not None:
            viewer.pending[entry] = None
            self._enqueue(viewer)
        return entry

    def _watch_new(self, viewer: Viewer, edge: FriendEdge) -> Entry:
        if edge.shows is not EXACT:
            viewer.plans[edge.user_id] = edge.shows
        said = _said_in(edge)
        self._say(edge.user_id, said)
        entry = self._entry(edge.user_id, edge.shows.at(self._clock()))
        if said.sequence > entry.said.sequence:
            entry.said = said
            self._judge(entry)
        entry.viewers[viewer] = False
        viewer.friends[entry.user_id] = entry
        return self._place(viewer, edge.user_id, announce=False)

    def change_friend(self, viewer: Viewer, edge: FriendEdge) -> None:
        """Let what is between ``viewer`` and a friend of theirs be as in ``edge``."""
        viewer.audience.let(edge.user_id, edge.sees, new=False)
        if edge.shows == EXACT:
            viewer.plans.pop(edge.user_id, None)
        else:
            viewer.plans[edge.user_id] = edge.shows
        self._say(edge.user_id, _said_in(edge))
        self._place(viewer, edge.user_id)

    def remove_friend(self, viewer: Viewer, friend_id: UserId, reason: GoneReason) -> bytes | None:
        """Let ``viewer`` watch ``friend_id`` no longer; return the channel to unsubscribe from, if any."""
        entry = viewer.friends.pop(friend_id, None)
        if entry is None:
            return None
        viewer.pending.pop(entry, None)
        viewer.plans.pop(friend_id, None)
        viewer.audience.forget(friend_id)
        self._timed_pairs.pop((viewer, friend_id), None)
        if self._forget(entry, viewer):
            viewer.saw[friend_id] = None
            viewer.gone[friend_id] = reason
            self._enqueue(viewer)
        return None if entry.tier is OFF else entry.channel

    def detach(self, viewer: Viewer) -> list[bytes]:
        """Forget ``viewer``, for good; return the channels to unsubscribe from."""
        entries = list(viewer.friends.values())
        for entry in entries:
            if self._forget(entry, viewer):
                viewer.saw[entry.user_id] = None
        for friend_id in viewer.plans:
            self._timed_pairs.pop((viewer, friend_id), None)
        viewer.friends.clear()
        viewer.pending.clear()
        viewer.live = False
        viewer.client = NOBODY  # who knows the viewer, and so would go only when the garbage collector finds them
        return [entry.channel for entry in entries if entry.tier is not OFF]

    def _forget(self, entry: Entry, viewer: Viewer) -> bool:
        shown = entry.viewers.pop(viewer, False)
        if not entry.viewers:
            del self._home(entry.tier)[entry.channel]
            if entry.record is not None:
                del self._expiring[entry.expiry_second][entry]
        return shown

    def _home(self, tier: Tier) -> dict[bytes, Entry]:
        return self.hidden if tier is OFF else self.entries

    def _entry(self, user_id: UserId, tier: Tier) -> Entry:
        """Return the entry of ``user_id`` at ``tier``, a new one if there is none; all of a user's say the same."""
        home, channel = self._home(tier), channel_of(user_id, tier)
        entry = home.get(channel)
        if entry is None:
            entry = Entry(user_id, tier)
            # A friend list may have been read before something was said that we have heard of since.
            said = [self.switches.get(user_id, UNHEARD), *(other.said for other in self._entries_of(user_id))]
            entry.said = max(said, key=lambda each: each.sequence)
            home[channel] = entry
            self._judge(entry)
        return entry

    def _entries_of(self, user_id: UserId) -> Iterator[Entry]:
        for tier in TIERS:
            home = self._home(tier)
            entry = home.get(channel_of(user_id, tier)) if home else None
            if entry is not None:
                yield entry

    # ------------------------------------------------------------------------------------------- tiers

    def set_sharing(self, user_id: UserId, sharing: bool, sequence: int, limits: Limits = NO_LIMITS) -> None:
        """Note what ``user_id`` says to everyone, by row ``sequence`` of the feed."""
        said = Said(sequence, sharing, limits)
        if sequence > self.switches.get(user_id, UNHEARD).sequence:
            self.switches.pop(user_id, None)  # so that the newest stand last
            self.switches[user_id] = said
            if len(self.switches) > MAX_SWITCHES:
                del self.switches[next(iter(self.switches))]
        self._say(user_id, said)

    def _say(self, user_id: UserId, said: Said) -> None:
        entries = [entry for entry in self._entries_of(user_id) if said.sequence > entry.said.sequence]
        for entry in entries:
            entry.said = said
        self._reconsider(entries)

    def _reconsider(self, entries: list[Entry]) -> None:
        """Let what the friend of ``entries`` says to everyone hold as of now, for each viewer of them."""
        to_place = []
        for entry in entries:
            ceiling, sharing = entry.ceiling, entry.sharing
            self._judge(entry)
            if (ceiling is APPROXIMATE) != (entry.ceiling is APPROXIMATE):
                to_place.append(entry)
            if entry.sharing != sharing:
                self.mark_viewers(entry)
                if entry.sharing:
                    self.channels.reopened(entry.channel)
        for entry in to_place:
            for viewer in list(entry.viewers):
                self._place(viewer, entry.user_id)

    def _judge(self, entry: Entry) -> None:
        until_ms = entry.judge(self._clock()).until_ms
        if until_ms is not None:
            self._timed_users[entry.user_id] = until_ms
            self.next_ms = min(self.next_ms, until_ms)

    def _place(self, viewer: Viewer, friend_id: UserId, *, announce: bool = True) -> Entry:
        """Let ``viewer`` watch the entry of ``friend_id`` that is right for them now; return it.

        ``announce``: :attr:`channels` is to be told.
        """
        old = viewer.friends[friend_id]
        plan, now_ms = viewer.plans.get(friend_id, EXACT), self._clock()
        until_ms = plan.until_ms(now_ms)
        if until_ms is None:
            self._timed_pairs.pop((viewer, friend_id), None)
        else:
            self._timed_pairs[viewer, friend_id] = until_ms
            self.next_ms = min(self.next_ms, until_ms)
        tier = plan.at(now_ms)
        if old.ceiling is APPROXIMATE:
            tier = min(tier, old.ceiling)
        if tier is old.tier:
            return old
        new = self._entry(friend_id, tier)
        self._change_over(viewer, old, new)
        if tier is OFF and new.viewers[viewer]:
            new.viewers[viewer] = False
            viewer.saw[friend_id] = None
            viewer.gone[friend_id] = GoneReason.NOT_SHARING if plan.openly else GoneReason.INACTIVE
        self._enqueue(viewer)
        if announce and old.tier is not OFF:
            self.channels.unwanted(old.channel)
        if announce and tier is not OFF:
            self.channels.wanted(new.channel)
        return new

    def _change_over(self, viewer: Viewer, old: Entry, new: Entry) -> None:
        """Let ``viewer`` watch ``new`` in place of ``old``; what the map shows stays until ``new`` says otherwise."""
        viewer.pending.pop(old, None)
        new.viewers[viewer] = self._forget(old, viewer)
        viewer.friends[new.user_id] = new
        if new.tier is APPROXIMATE and old.record is not None and _is_newer(old.record, new.record):
            # So that the same frame that takes the exact place away shows the cell, and time does not go back.
            self._take(new, old.record, old.expires_at_ms, old.heard_ms)
        if viewer.live and (new.record is not None or not new.sharing):
            viewer.pending[new] = None

    def advance(self) -> None:
        """Let each tier be as it is due by the clock. To be called before anything is sent."""
        now_ms = self._clock()
        if now_ms < self.next_ms:
            return
        pairs = [pair for pair, due_ms in self._timed_pairs.items() if due_ms <= now_ms]
        user_ids = [user_id for user_id, due_ms in self._timed_users.items() if due_ms <= now_ms]
        for pair in pairs:
            del self._timed_pairs[pair]
        for user_id in user_ids:
            del self._timed_users[user_id]
            self._reconsider(list(self._entries_of(user_id)))
        for viewer, friend_id in pairs:
            self._place(viewer, friend_id)
        dues_ms = [*self._timed_pairs.values(), *self._timed_users.values()]
        self.next_ms = min(dues_ms, default=NEVER_MS)

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
        self._take(entry, record, expires_at_ms, now_ms)
        return True

    def _take(self, entry: Entry, record: LocationRecord, expires_at_ms: int, heard_ms: int) -> None:
        new = entry.record is None
        entry.show(record, expires_at_ms)
        entry.heard_ms = heard_ms
        if new:
            self._look_again(entry)
        self.moved[entry] = None

    def unknown(self, entry: Entry) -> None:
        """The cache knows nothing of this friend: whoever still shows them from another tier must not."""
        if entry.record is None:
            self.mark_viewers(entry)

    def move(self, viewer: Viewer, lat_deg: float, lon_deg: float) -> None:
        """Note that ``viewer`` is now at this place: unless they were before, every distance has changed."""
        vector = unit_vector(lat_deg, lon_deg)
        if viewer.located and vector == viewer.vector:
            return
        viewer.vector = vector
        viewer.located = True
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
                    self.mark_viewers(entry)

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
                self.mark_viewers(entry)

    def _look_again(self, entry: Entry) -> None:
        entry.expiry_second = entry.expires_at_ms // 1000 + 1
        self._expiring.setdefault(entry.expiry_second, {})[entry] = None

    # ------------------------------------------------------------------------------------------- marks

    def mark_moved(self) -> None:
        """Mark the viewers of all who moved."""
        for entry in self.moved:
            self.mark_viewers(entry)
        self.moved.clear()

    def mark(self, entry: Entry, viewer: Viewer) -> None:
        """Note that ``viewer`` may have to be told of ``entry``."""
        if viewer.live:
            viewer.pending[entry] = None
            self.marked_count += 1
            self._enqueue(viewer)

    def mark_viewers(self, entry: Entry) -> None:
        """Note that every viewer of ``entry`` may have to be told."""
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


def _said_in(edge: FriendEdge) -> Said:
    if edge.sharing and edge.switch_sequence == 0 and edge.limits is NO_LIMITS:
        return FROM_THE_START
    return Said(edge.switch_sequence, edge.sharing, edge.limits)


def _is_newer(record: LocationRecord, known: LocationRecord | None) -> bool:
    return known is None or record.recorded_at_ms > known.recorded_at_ms
