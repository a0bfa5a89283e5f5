"""What a ring keeper does next: decided from one view of the ring and its members. Pure.

The keeper itself votes too. A slot counts as unreachable when a majority of all live members that use the ring and
the keeper say so, and the keeper is not alone with a broken network: a spare must answer the keeper before it is
used, and if the slot answers the keeper, a member that reports it must reach another slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nearby.ports import Member, RingState

GRACE_S = 5.0
"""How long the old subscriptions stay after the last member has switched: messages are still on their way."""
SETTLE_S = 10.0
"""How long a slot is left alone after its address changed: members need a moment to reach the new server."""


@dataclass(frozen=True, slots=True)
class View:
    """What a keeper knows at ``now_s`` of a monotonic clock.

    ``members`` are the live ones that use the ring. ``unreachable`` are the slots, of any ring present, that have not
    answered the keeper for some seconds, ``answering_spares`` the spares that do answer it.
    """

    ring: RingState
    members: Sequence[Member]
    unreachable: frozenset[str] = frozenset()
    answering_spares: frozenset[str] = frozenset()
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Commit:
    """Put the pending nodes in force."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Drop the nodes of before."""

    reason: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Give the pending nodes up."""

    reason: str


@dataclass(frozen=True, slots=True)
class Replace:
    """Put ``spare`` in the place of the dead shard of ``slot``."""

    slot: str
    spare: str
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for now."""

    reason: str


Action = Commit | Finish | Abort | Replace | Wait


@dataclass(slots=True)
class Rules:
    """Decides, and remembers since when all members have switched and when addresses changed.

    Every keeper feeds its views to its rules, leading or not, so that a new leader knows what has just happened.
    """

    grace_s: float = GRACE_S
    settle_s: float = SETTLE_S
    _switched_since: tuple[int, float] | None = None  # the epoch, and the time
    _addresses: dict[str, str] = field(default_factory=dict)
    _changed_at_s: dict[str, float] = field(default_factory=dict)

    def decide(self, view: View) -> Action:
        """Return the next action; call it for every view, in the order of time."""
        self._observe(view)
        if not view.members:
            return Wait("no member that uses the ring is registered")
        if view.ring.previous is not None:
            return self._finish(view)
        dead = dead_slots(view)
        if view.ring.pending is not None:
            return _commit_or_abort(view, view.ring.pending, dead)
        return self._replace(view, [slot for slot in dead if slot in view.ring.nodes])

    def _observe(self, view: View) -> None:
        epoch = view.ring.epoch
        if not view.members or not_switched(view.ring, view.members):
            self._switched_since = None
        elif self._switched_since is None or self._switched_since[0] != epoch:
            self._switched_since = (epoch, view.now_s)
        for slot, address in view.ring.nodes.items():
            if self._addresses.get(slot, address) != address:
                self._changed_at_s[slot] = view.now_s
            self._addresses[slot] = address

    def _finish(self, view: View) -> Finish | Wait:
        missing = not_switched(view.ring, view.members)
        if missing:
            return Wait(f"{_count(view, missing)} members have switched; missing: {', '.join(missing)}")
        assert self._switched_since is not None
        if view.now_s - self._switched_since[1] < self.grace_s:
            return Wait(f"all members have switched; old subscriptions are kept for {self.grace_s:g} s")
        return Finish(f"all {len(view.members)} members have switched")

    def _replace(self, view: View, dead: Sequence[str]) -> Replace | Wait:
        if not dead:
            return Wait("nothing to do")
        missing = not_switched(view.ring, view.members)
        if missing:
            return Wait(f"{dead[0]} is unreachable, but not all members use ring {view.ring.epoch} yet: {missing[0]}")
        slot = next((slot for slot in dead if self._is_settled(slot, view.now_s)), None)
        if slot is None:
            return Wait(f"{dead[0]} was replaced a moment ago")
        why = f"{slot} at {view.ring.nodes[slot]} is unreachable for {voters_text(view, slot)}"
        spare = _usable_spare(view)
        if spare is None:
            return Wait(f"{why}, and no spare answers")
        return Replace(slot, spare, why)

    def _is_settled(self, slot: str, now_s: float) -> bool:
        changed_at_s = self._changed_at_s.get(slot)
        return changed_at_s is None or now_s - changed_at_s >= self.settle_s


def not_prepared(ring: RingState, members: Sequence[Member]) -> list[str]:
    """Return the ids of the members that are not yet subscribed for the next epoch."""
    return [member.member_id for member in members if member.prepared_epoch <= ring.epoch]


def not_switched(ring: RingState, members: Sequence[Member]) -> list[str]:
    """Return the ids of the members that do not yet publish by the ring in force."""
    return [member.member_id for member in members if member.switched_epoch < ring.epoch]


def votes(view: View, slot: str) -> int:
    """Return how many of the members and the keeper report ``slot`` as unreachable."""
    return sum(slot in member.unreachable for member in view.members) + (slot in view.unreachable)


def dead_slots(view: View) -> list[str]:
    """Return the slots, of any ring present, that a quorum reports as unreachable, sorted."""
    slots = {*view.ring.nodes, *(view.ring.pending or {}), *(view.ring.previous or {})}
    voters = len(view.members) + 1
    return sorted(slot for slot in slots if 2 * votes(view, slot) > voters and _is_credible(view, slot, slots))


def voters_text(view: View, slot: str) -> str:
    """Return who reports ``slot``, such as ``3 of 4 (gw-1, gw-2, keeper)``."""
    names = [member.member_id for member in view.members if slot in member.unreachable]
    names += ["the keeper"] if slot in view.unreachable else []
    return f"{len(names)} of {len(view.members) + 1} ({', '.join(names)})"


def _is_credible(view: View, slot: str, slots: set[str]) -> bool:
    """Whether it is the shard that fails: the keeper sees it too, or a member that reaches other shards does."""
    if slot in view.unreachable:
        return True
    return any(slot in member.unreachable and not slots <= set(member.unreachable) for member in view.members)


def _usable_spare(view: View) -> str | None:
    return next((spare for spare in view.ring.spares if spare in view.answering_spares), None)


def _count(view: View, missing: Sequence[str]) -> str:
    return f"{len(view.members) - len(missing)} of {len(view.members)}"


def _commit_or_abort(view: View, pending: Mapping[str, str], dead: Sequence[str]) -> Commit | Abort | Wait:
    for slot in dead:
        # Where a shard of now is dead and stays in the ring, giving up only helps if it can then be replaced.
        if slot in pending and (slot not in view.ring.nodes or _usable_spare(view) is not None):
            return Abort(f"{slot} at {pending[slot]} is unreachable for {voters_text(view, slot)}")
    missing = not_prepared(view.ring, view.members)
    if missing:
        return Wait(f"{_count(view, missing)} members are prepared; missing: {', '.join(missing)}")
    return Commit(f"all {len(view.members)} members are prepared")
