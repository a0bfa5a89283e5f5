"""Publish and subscribe over all shards of the ring: the implementation of :class:`nearby.ports.PubSub`.

Invariant: a channel with subscribers is subscribed at its owner in *every* ring present, the one in force and the
pending or previous one, and published at its owner in the one in force. So a resize in three writes
(:class:`nearby.ports.RingState`) leaves no moment without a subscription, in whatever order processes notice it.
"""

from __future__ import annotations

import asyncio
import contextlib
from array import array
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self
from zlib import crc32

from nearby.ports import PubSubListener, RingState
from nearby.ring import Ring
from pubsub_router.shard import Shard

SUBSCRIBE_TIMEOUT_S = 2.0
"""How long :meth:`Router.confirmed` waits for a shard; beyond that the caller goes on and a gap follows."""
DOWN_AFTER_S = 3.0
"""A shard that is back within this time is not called unreachable, and so not replaced."""
_CHANNELS_PER_TURN = 1_000


class Router:
    """Routes each channel to the shard that the ring gives it. An async context manager.

    Until the first ring has been applied nothing is routed, so wait for :attr:`has_ring` before subscribing.
    ``progressed`` is set whenever :attr:`prepared_epoch` or :attr:`switched_epoch` changes.
    """

    def __init__(self, listener: PubSubListener, *, member: str, probe_interval_s: float) -> None:
        self.has_ring = asyncio.Event()
        self.progressed = asyncio.Event()
        self.ring: Ring | None = None
        self.prepared_epoch = 0
        """The newest pending ring for which every channel is subscribed."""
        self.unrouted_count = 0
        self._listener = listener
        self._member = member
        self._probe_interval_s = probe_interval_s
        self._subscribers: dict[bytes, int] = {}
        self._shards: dict[str, Shard] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._routes: list[tuple[array[int], list[Shard]]] = []  # of each ring present; by the first we publish
        self._preparing: asyncio.Task[None] | None = None
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop_preparing()
        for task in self._running.values():
            task.cancel()
        await self._tasks.__aexit__(kind, error, traceback)

    @property
    def shards(self) -> Mapping[str, Shard]:
        """The connections by slot name."""
        return self._shards

    @property
    def subscription_count(self) -> int:
        """Channels with at least one subscriber."""
        return len(self._subscribers)

    @property
    def switched_epoch(self) -> int:
        """The ring by which this process publishes; 0 before the first."""
        return self.ring.epoch if self.ring else 0

    def unreachable(self) -> tuple[str, ...]:
        """Return the slots of the ring whose shard has not answered for :data:`DOWN_AFTER_S`."""
        now_s = asyncio.get_running_loop().time()
        return tuple(
            slot
            for slot in (self.ring.slots if self.ring else ())
            if (since_s := self._shards[slot].down_since_s) is not None and now_s - since_s >= DOWN_AFTER_S
        )

    # ---------------------------------------------------------------------------------------- the ring

    async def follow(self, rings: AsyncIterator[RingState]) -> None:
        """Apply each ring as it comes, until cancelled."""
        async for state in rings:
            await self.apply(state)

    async def apply(self, state: RingState) -> None:
        """Route by ``state`` from now on.

        A channel that was not subscribed at any of its owners before is reported as a gap once it is, and the cache
        makes good what fell between. A slot with a new address keeps its channels.
        """
        self._stop_preparing()
        present = [(state.epoch, state.nodes)]
        if state.pending is not None:
            present.append((state.epoch + 1, state.pending))
        if state.previous is not None:
            present.append((state.epoch - 1, state.previous))
        # Building a table of many shards takes a while, in which the loop must go on.
        rings = [await asyncio.to_thread(Ring.of, epoch, nodes) for epoch, nodes in present]
        for ring in reversed(rings):  # so that the address of a slot is that of the ring in force
            self._connect(ring)
        self._routes = [(ring.table, [self._shards[slot] for slot in ring.slots]) for ring in rings]
        self.ring = rings[0]
        self.has_ring.set()
        self.progressed.set()
        await self._subscribe_at_owners()
        if state.pending is not None:
            self._preparing = self._tasks.create_task(self._prepare(state.epoch + 1), name="prepare ring")
        elif state.previous is None:
            await self._leave_former_owners()

    def _connect(self, ring: Ring) -> None:
        for slot, address in zip(ring.slots, ring.addresses, strict=True):
            if slot in self._shards:
                self._shards[slot].move_to(address)
                continue
            shard = Shard(slot, address, self._listener, member=self._member, probe_interval_s=self._probe_interval_s)
            self._shards[slot] = shard
            self._running[slot] = self._tasks.create_task(shard.run(), name=f"shard {slot}")

    async def _subscribe_at_owners(self) -> None:
        """Subscribe every channel wherever it is missing, a thousand a turn."""
        for channels in _turns(list(self._subscribers)):
            wanted: dict[tuple[Shard, bool], list[bytes]] = {}
            for channel in channels:
                if channel not in self._subscribers:
                    continue
                owners = self._owners_of(channel)
                gap = not any(channel in shard.subscriptions.confirmed for shard in owners)
                for shard in owners:
                    if channel not in shard.subscriptions:
                        wanted.setdefault((shard, gap), []).append(channel)
            for (shard, gap), missing in wanted.items():
                shard.subscribe(missing, after_gap=gap)
            await asyncio.sleep(0)

    async def _prepare(self, epoch: int) -> None:
        """Wait until every channel is in force at its owner in the pending ring, then say so."""
        missing: dict[Shard, list[bytes]] = {}
        table, shards = self._routes[1]
        for channel in self._subscribers:
            shard = shards[table[crc32(channel) & 0xFFFF]]
            if channel not in shard.subscriptions.confirmed:
                missing.setdefault(shard, []).append(channel)
        await _all_confirmed(missing)
        self.prepared_epoch = epoch
        self.progressed.set()

    def _stop_preparing(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
            self._preparing = None

    async def _leave_former_owners(self) -> None:
        """Drop every subscription that no ring present asks for, and the shards of no ring."""
        for shard in list(self._shards.values()):
            for channels in _turns(list(shard.subscriptions)):
                shard.unsubscribe(
                    channel
                    for channel in channels
                    if channel not in self._subscribers or shard not in self._owners_of(channel)
                )
                await asyncio.sleep(0)
        assert self.ring is not None
        for slot in self._shards.keys() - set(self.ring.slots):
            self._running.pop(slot).cancel()
            del self._shards[slot]

    def _owners_of(self, channel: bytes) -> list[Shard]:
        partition = crc32(channel) & 0xFFFF
        return [shards[table[partition]] for table, shards in self._routes]

    # --------------------------------------------------------------------------------------- the port

    def publish(self, channel: bytes, payload: bytes) -> None:
        """Send ``payload`` to the shard of ``channel``; see the port. Without a ring it is dropped and counted."""
        if self._routes:
            table, shards = self._routes[0]
            shards[table[crc32(channel) & 0xFFFF]].publish(channel, payload)
        else:
            self.unrouted_count += 1

    def subscribe(self, channels: Sequence[bytes]) -> None:
        """Count one more subscriber of each channel; see the port."""
        counts = self._subscribers
        fresh: dict[Shard, list[bytes]] = {}
        for channel in channels:
            count = counts.get(channel, 0)
            counts[channel] = count + 1
            if not count:
                for shard in self._owners_of(channel):
                    fresh.setdefault(shard, []).append(channel)
        for shard, added in fresh.items():
            shard.subscribe(added)

    async def confirmed(self, channels: Sequence[bytes]) -> None:
        """Return once all of ``channels`` are in force at every owner; see the port."""
        missing: dict[Shard, list[bytes]] = {}
        for channel in channels:
            for shard in self._owners_of(channel):
                if channel not in shard.subscriptions.confirmed:
                    missing.setdefault(shard, []).append(channel)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_S):
                await _all_confirmed(missing)

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        """Count one subscriber of each channel less; see the port."""
        counts = self._subscribers
        gone: dict[Shard, list[bytes]] = {}
        for channel in channels:
            count = counts[channel] - 1
            if count:
                counts[channel] = count
            else:
                del counts[channel]
                for shard in self._owners_of(channel):
                    gone.setdefault(shard, []).append(channel)
        for shard, dropped in gone.items():
            shard.unsubscribe(dropped)

    def reachable(self, channel: bytes) -> bool:
        """Whether the shard of ``channel`` answers; see the port."""
        return bool(self._routes) and self._owners_of(channel)[0].connected


async def _all_confirmed(missing: Mapping[Shard, list[bytes]]) -> None:
    """Wait for each shard's channels; those given up on by cancellation are reported as gaps when they come."""
    waits = [(shard, shard.subscriptions.wait_for(channels), channels) for shard, channels in missing.items()]
    try:
        for _, waiter, _ in waits:
            await waiter.done
    finally:
        for shard, waiter, channels in waits:
            if not waiter.done.done() or waiter.done.cancelled():
                shard.subscriptions.give_up(waiter, channels)


def _turns(channels: list[bytes]) -> Iterable[list[bytes]]:
    for start in range(0, len(channels), _CHANNELS_PER_TURN):
        yield channels[start : start + _CHANNELS_PER_TURN]
