"""What a keeper tells about the ring, as the documents of its admin API. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nearby.ports import Member, RingAction, RingState
from nearby.ring import PARTITIONS, Ring
from pubsub_router.keeper_rules import View, not_prepared, not_switched
from pubsub_router.plan import Moves, moves


@dataclass(frozen=True, slots=True)
class ShardDocument:
    """One slot of any ring present. ``partitions_next`` is ``None`` where no resize is pending.

    ``unreachable_by`` names who reports the shard, ``keeper`` being the one that answers.
    """

    slot: str
    address: str
    partitions: int
    share: float
    partitions_next: int | None
    unreachable_by: Sequence[str]


@dataclass(frozen=True, slots=True)
class SpareDocument:
    """One spare, and whether it answers the keeper."""

    address: str
    answers: bool


@dataclass(frozen=True, slots=True)
class ResizeDocument:
    """A running resize: ``preparing`` before the commit, ``switching`` after it, ``settling`` in the grace period.

    ``epoch`` is that of the new nodes. ``done`` of ``total`` members have done what the phase asks for; ``missing``
    names the others.
    """

    phase: str
    epoch: int
    moved_partitions: int
    moved_share: float
    done: int
    total: int
    missing: Sequence[str]


@dataclass(frozen=True, slots=True)
class MemberDocument:
    """One live member that uses the ring."""

    id: str
    role: str
    state: str
    prepared_epoch: int
    switched_epoch: int
    unreachable: Sequence[str]


@dataclass(frozen=True, slots=True)
class RingDocument:
    """Everything about the ring. ``leader`` is ``None`` while none is elected; ``next`` is what a leader does now."""

    epoch: int
    shards: Sequence[ShardDocument]
    spares: Sequence[SpareDocument]
    resize: ResizeDocument | None
    members: Sequence[MemberDocument]
    leader: str | None
    keepers: Sequence[str]
    next: str
    actions: Sequence[RingAction]


@dataclass(frozen=True, slots=True)
class MoveDocument:
    """Partitions that go from one slot to another."""

    source: str
    target: str
    partitions: int


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """What a resize to ``nodes`` would do; partitions by slot before and after it."""

    epoch: int
    nodes: Mapping[str, str]
    moves: Sequence[MoveDocument]
    moved_partitions: int
    moved_share: float
    before: Mapping[str, int]
    after: Mapping[str, int]


def ring_document(
    view: View, keepers: Mapping[str, Member], next_step: str, actions: Sequence[RingAction]
) -> RingDocument:
    """Return what is known; takes up to 0.6 s of one core after a change."""
    ring = view.ring
    return RingDocument(
        epoch=ring.epoch,
        shards=_shards(view),
        spares=[SpareDocument(address, address in view.answering_spares) for address in ring.spares],
        resize=_resize(view),
        members=[_member(member) for member in view.members],
        leader=next((keeper_id for keeper_id, keeper in sorted(keepers.items()) if is_leading(keeper)), None),
        keepers=sorted(keepers),
        next=next_step,
        actions=actions,
    )


def plan_document(present: RingState | None, nodes: Mapping[str, str]) -> PlanDocument:
    """Return what a resize from ``present`` (``None``: there is no ring yet) to ``nodes`` would do."""
    epoch = 1 if present is None else present.epoch + 1
    if present is None:
        return PlanDocument(epoch, nodes, [], 0, 0.0, {}, Ring.of(epoch, nodes).partition_counts())
    would = moves(present.nodes, nodes)
    listed = [MoveDocument(source, target, count) for (source, target), count in would.moved.items()]
    return PlanDocument(epoch, nodes, listed, would.moved_count, would.moved_share, would.before, would.after)


_Lacking = Callable[[RingState, Sequence[Member]], list[str]]

LEADING: Mapping[str, str] = {"leading": "1"}
"""The details of the member that leads."""


def is_leading(keeper: Member) -> bool:
    """Whether ``keeper`` announces that it leads."""
    return keeper.details.get("leading") == "1"


def _shards(view: View) -> list[ShardDocument]:
    ring = view.ring
    now = Ring.of(ring.epoch, ring.nodes).partition_counts()
    then = Ring.of(ring.epoch, ring.pending).partition_counts() if ring.pending is not None else None
    nodes = {**(ring.previous or {}), **(ring.pending or {}), **ring.nodes}
    return [
        ShardDocument(
            slot,
            address,
            now.get(slot, 0),
            now.get(slot, 0) / PARTITIONS,
            None if then is None else then.get(slot, 0),
            [member.member_id for member in view.members if slot in member.unreachable]
            + (["keeper"] if slot in view.unreachable else []),
        )
        for slot, address in sorted(nodes.items(), key=lambda node: _natural(node[0]))
    ]


def _natural(slot: str) -> tuple[str, int]:
    """Return a sort key by which ``shard-10`` comes after ``shard-9``."""
    name = slot.rstrip("0123456789")
    digits = slot[len(name) :]
    return name, int(digits) if digits else -1


def _resize(view: View) -> ResizeDocument | None:
    ring = view.ring
    if ring.pending is not None:
        return _progress("preparing", ring.epoch + 1, moves(ring.nodes, ring.pending), not_prepared, view)
    if ring.previous is not None:
        phase = "switching" if not_switched(ring, view.members) else "settling"
        return _progress(phase, ring.epoch, moves(ring.previous, ring.nodes), not_switched, view)
    return None


def _progress(phase: str, epoch: int, would: Moves, lacking: _Lacking, view: View) -> ResizeDocument:
    missing = lacking(view.ring, view.members)
    total = len(view.members)
    return ResizeDocument(phase, epoch, would.moved_count, would.moved_share, total - len(missing), total, missing)


def _member(member: Member) -> MemberDocument:
    return MemberDocument(
        member.member_id,
        member.role.value,
        member.state.value,
        member.prepared_epoch,
        member.switched_epoch,
        member.unreachable,
    )
