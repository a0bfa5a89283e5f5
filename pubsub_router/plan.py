"""The changes that a ring may go through, and what each would move. Pure.

Invariants:

* An epoch names one set of nodes. An abort takes the next epoch too: members that were prepared for the ring that
  was given up must not count as prepared for the one that is tried after it.
* A slot keeps its address through a resize, so a slot name means one server in all the rings present. Only
  :func:`replace` changes an address, and never while another ring is present.
* ``spares`` lose an address when it becomes a node: at the commit of a resize, or at once by :func:`replace`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from nearby.errors import NearbyError
from nearby.ports import RingState
from nearby.ring import PARTITIONS, Ring

ADDRESS_FORMS = "unix:///PATH or redis://HOST:PORT"


class RingRefused(NearbyError):
    """A change that the ring does not allow now. ``code`` is stable; ``detail`` is one line for people."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(detail)


def create(nodes: Mapping[str, str]) -> RingState:
    """Return the first ring, of epoch 1.

    Raises:
        RingRefused: there are no nodes, or an address is malformed or there twice.
    """
    _check_nodes(nodes)
    return RingState(1, dict(nodes))


def nodes_after(state: RingState | None, add: Sequence[str] = (), remove: Sequence[str] = ()) -> dict[str, str]:
    """Return the nodes of ``state`` (``None``: no ring yet) without ``remove`` and with ``add``.

    ``add`` has addresses, or ``SLOT=ADDRESS`` to choose the name; a name not chosen is the lowest free ``shard-N``.
    ``remove`` has slots or addresses.

    Raises:
        RingRefused: an address is in the ring already, a name is taken, or what is to be removed is not there.
    """
    present = dict(state.nodes) if state is not None else {}
    gone = {_slot_of(present, word) for word in remove}
    added: dict[str, str] = {}
    for word in add:
        name, address = _split(word)
        # A name that is just being removed is not free: its partitions would not move, and both servers would own it.
        slot = name or _free_name(present.keys() | added.keys())
        if slot in present or slot in added:
            raise RingRefused("slot_taken", f"slot {slot} is in the ring already; choose another name")
        if address in {*present.values(), *added.values()}:
            raise RingRefused("address_taken", f"{address} is in the ring already")
        added[slot] = address
    return {slot: address for slot, address in present.items() if slot not in gone} | added


def add(state: RingState, nodes: Mapping[str, str]) -> RingState:
    """Begin a resize that adds ``nodes``, addresses by slot.

    Raises:
        RingRefused: see :func:`nodes_after` and :func:`begin_resize`.
    """
    return begin_resize(state, nodes_after(state, [f"{slot}={address}" for slot, address in nodes.items()]))


def remove(state: RingState, slots: Iterable[str]) -> RingState:
    """Begin a resize that removes ``slots``, named by slot or address.

    Raises:
        RingRefused: see :func:`nodes_after` and :func:`begin_resize`.
    """
    return begin_resize(state, nodes_after(state, remove=list(slots)))


def begin_resize(state: RingState, nodes: Mapping[str, str]) -> RingState:
    """Return ``state`` with ``nodes`` pending.

    Raises:
        RingRefused: another change is running, nothing would change, no shard would be left, or an address is
            malformed, there twice, or changed under a slot that stays.
    """
    _check_idle(state)
    _check_nodes(nodes)
    if dict(nodes) == dict(state.nodes):
        raise RingRefused("no_change", "the ring is like that already")
    for slot in sorted(nodes.keys() & state.nodes.keys()):
        if nodes[slot] != state.nodes[slot]:
            raise RingRefused("address_change", f"slot {slot} is at {state.nodes[slot]}; a resize does not replace it")
    return dataclasses.replace(state, pending=dict(nodes))


def abort(state: RingState) -> RingState:
    """Return ``state`` without its pending nodes, under the next epoch.

    Raises:
        RingRefused: no resize is pending; one that was committed is past aborting.
    """
    if state.pending is None:
        committed = "the resize is committed and cannot be aborted; resize back once it is finished"
        raise RingRefused("no_resize", "no resize is running" if state.previous is None else committed)
    return dataclasses.replace(state, epoch=state.epoch + 1, pending=None)


def commit(state: RingState) -> RingState:
    """Return the ring in which the pending nodes are in force, under the next epoch.

    Raises:
        RingRefused: no resize is pending.
    """
    if state.pending is None:
        raise RingRefused("no_resize", "no resize is pending")
    taken = set(state.pending.values())
    spares = tuple(address for address in state.spares if address not in taken)
    return RingState(state.epoch + 1, dict(state.pending), None, dict(state.nodes), spares)


def finish(state: RingState) -> RingState:
    """Return ``state`` without the nodes of before.

    Raises:
        RingRefused: there are none.
    """
    if state.previous is None:
        raise RingRefused("no_resize", "no committed resize waits to be finished")
    return dataclasses.replace(state, previous=None)


def replace(state: RingState, slot: str, address: str) -> RingState:
    """Return the ring in which the shard of ``slot`` is the server at ``address``, under the next epoch.

    Raises:
        RingRefused: another change is running, the slot is unknown, or the address is malformed or in the ring.
    """
    _check_idle(state)
    _check_address(address)
    if slot not in state.nodes:
        raise RingRefused("unknown_slot", f"there is no slot {slot}; slots: {', '.join(sorted(state.nodes))}")
    if address in state.nodes.values():
        raise RingRefused("address_taken", f"{address} is in the ring already")
    spares = tuple(spare for spare in state.spares if spare != address)
    return RingState(state.epoch + 1, {**state.nodes, slot: address}, spares=spares)


def change_spares(state: RingState, add: Sequence[str] = (), remove: Sequence[str] = ()) -> RingState:
    """Return ``state`` with other spares, under the same epoch, since no node changes. Allowed at any time.

    Raises:
        RingRefused: an address to add is malformed, a spare, or in use; one to remove is no spare.
    """
    used = {*state.nodes.values(), *(state.pending or {}).values(), *(state.previous or {}).values()}
    spares = list(state.spares)
    for address in remove:
        if address not in spares:
            raise RingRefused("unknown_spare", f"{address} is no spare")
        spares.remove(address)
    for address in add:
        _check_address(address)
        if address in used:
            raise RingRefused("address_taken", f"{address} is in the ring already")
        if address in spares:
            raise RingRefused("address_taken", f"{address} is a spare already")
        spares.append(address)
    return dataclasses.replace(state, spares=tuple(spares))


# ----------------------------------------------------------------------------------------------- moves


@dataclass(frozen=True, slots=True)
class Moves:
    """What changes between two rings, in partitions (of 65,536)."""

    moved: Mapping[tuple[str, str], int]
    """How many partitions go from one slot to another."""
    before: Mapping[str, int]
    after: Mapping[str, int]

    @property
    def moved_count(self) -> int:
        """How many partitions change their slot."""
        return sum(self.moved.values())

    @property
    def moved_share(self) -> float:
        """Which share of all partitions changes its slot, 0 to 1."""
        return self.moved_count / PARTITIONS


def moves(before: Mapping[str, str], after: Mapping[str, str]) -> Moves:
    """Return what moves from the nodes ``before`` to those ``after``; remembered, since a resize asks again and again.

    The first time it takes some 20 ms of one core for a few shards, 0.6 s for 150.
    """
    return _moves(tuple(sorted(before)), tuple(sorted(after)))


@lru_cache(maxsize=16)
def _moves(before: tuple[str, ...], after: tuple[str, ...]) -> Moves:
    old, new = (Ring.of(0, dict.fromkeys(slots, "")) for slots in (before, after))
    pairs = Counter(zip(old.table, new.table, strict=True))
    named = {(old.slots[source], new.slots[target]): count for (source, target), count in pairs.items()}
    moved = {(source, target): count for (source, target), count in sorted(named.items()) if source != target}
    return Moves(moved, old.partition_counts(), new.partition_counts())


# ---------------------------------------------------------------------------------------------- checks


def _check_idle(state: RingState) -> None:
    if state.pending is not None:
        raise RingRefused("resize_running", "a resize is running; wait for its end, or abort it")
    if state.previous is not None:
        raise RingRefused("resize_running", "a resize is being finished; try again in some seconds")


def _check_nodes(nodes: Mapping[str, str]) -> None:
    if not nodes:
        raise RingRefused("last_shard", "the last shard cannot be removed")
    for slot, address in nodes.items():
        if not slot:
            raise RingRefused("bad_slot", "a slot needs a name")
        _check_address(address)
    (address, count) = Counter(nodes.values()).most_common(1)[0]
    if count > 1:
        raise RingRefused("address_taken", f"{address} is named twice")


def _check_address(address: str) -> None:
    if not _is_address(address):
        raise RingRefused("bad_address", f"{address!r} is no address; allowed: {ADDRESS_FORMS}")


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    if parts.query or parts.fragment or any(character.isspace() for character in address):
        return False
    if parts.scheme == "unix":
        return not parts.netloc and len(parts.path) > 1
    tcp = parts.scheme == "redis" and bool(parts.hostname) and bool(port)
    return tcp and not parts.path and "@" not in parts.netloc


def _split(word: str) -> tuple[str, str]:
    """Return the chosen name (empty: none) and the address of ``SLOT=ADDRESS`` or ``ADDRESS``."""
    before, separator, after = word.partition("=")
    name, address = (before, after) if separator and "://" not in before else ("", word)
    if separator and not before:
        raise RingRefused("bad_slot", f"{word!r} has no slot name before the equals sign")
    _check_address(address)
    return name, address


def _slot_of(nodes: Mapping[str, str], word: str) -> str:
    if word in nodes:
        return word
    for slot, address in nodes.items():
        if address == word:
            return slot
    raise RingRefused("unknown_slot", f"no shard of the ring is {word}; slots: {', '.join(sorted(nodes)) or 'none'}")


def _free_name(taken: Iterable[str]) -> str:
    names = set(taken)
    number = 1
    while f"shard-{number}" in names:
        number += 1
    return f"shard-{number}"
