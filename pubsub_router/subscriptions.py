"""What one shard connection is, and should be, subscribed to. Pure.

Invariant: every wanted channel is in exactly one of three places: ``waiting`` to be asked for, ``asked`` for and
not yet confirmed, or ``confirmed``. At most :data:`WINDOW` chunks are asked for at a time, and the next
goes out only as confirmations are read: one SUBSCRIBE of a million channels would overflow the server's
output buffer, and the server would drop us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

CHUNK = 512
WINDOW = 2


class Subscriptions:
    """The bookkeeping; every method says what has to be sent or told, and does no I/O."""

    def __init__(self) -> None:
        self.confirmed: set[bytes] = set()
        self._waiting: dict[bytes, None] = {}  # a dict for its order: first asked, first served
        self._asked: set[bytes] = set()
        self._stale: dict[bytes, int] = {}  # confirmations still to come for channels dropped while asked for
        self._lost: set[bytes] = set()  # were confirmed on an earlier connection: messages may be missing
        self._waiters: dict[bytes, list[Waiter]] = {}

    def __len__(self) -> int:
        return len(self.confirmed) + len(self._asked) + len(self._waiting)

    def __contains__(self, channel: bytes) -> bool:
        return channel in self.confirmed or channel in self._asked or channel in self._waiting

    def __iter__(self) -> Iterator[bytes]:
        return chain(self.confirmed, self._asked, self._waiting)

    @property
    def settled(self) -> bool:
        """Whether everything wanted is confirmed."""
        return not self._asked and not self._waiting

    def want(self, channels: Iterable[bytes], *, after_gap: bool = False) -> None:
        """Want ``channels``; ``after_gap`` tells that messages on them may have been missed before."""
        for channel in channels:
            if channel not in self.confirmed and channel not in self._asked:
                self._waiting[channel] = None
                if after_gap:
                    self._lost.add(channel)

    def drop(self, channels: Iterable[bytes]) -> list[bytes]:
        """Cease to want ``channels``; return those for which the server must be told."""
        told = []
        for channel in channels:
            self._lost.discard(channel)
            for waiter in self._waiters.pop(channel, ()):
                waiter.one_confirmed()  # nobody is left who could miss anything
            if channel in self._asked:
                self._asked.discard(channel)
                self._stale[channel] = self._stale.get(channel, 0) + 1
                told.append(channel)
            elif channel in self.confirmed:
                self.confirmed.discard(channel)
                told.append(channel)
            else:
                self._waiting.pop(channel, None)
        return told

    def next_chunk(self) -> list[bytes]:
        """Return the channels to ask for now; empty while the window is full or nothing is waiting."""
        if len(self._asked) > CHUNK * (WINDOW - 1):
            return []
        chunk = []
        for channel in self._waiting:
            chunk.append(channel)
            if len(chunk) == CHUNK:
                break
        for channel in chunk:
            del self._waiting[channel]
        self._asked.update(chunk)
        return chunk

    def confirm(self, channel: bytes) -> bool:
        """Note the server's confirmation; return whether messages may have been missed before it."""
        stale = self._stale.pop(channel, 0)
        if stale:
            # An UNSUBSCRIBE follows this one, so it confirms nothing that lasts.
            if stale > 1:
                self._stale[channel] = stale - 1
            return False
        self._asked.discard(channel)
        self.confirmed.add(channel)
        for waiter in self._waiters.pop(channel, ()):
            waiter.one_confirmed()
        gap = channel in self._lost
        self._lost.discard(channel)
        return gap

    def connection_lost(self) -> None:
        """Start over: all that was confirmed must be asked for again, and may have missed messages."""
        self._lost |= self.confirmed
        again = [*self.confirmed, *self._asked, *self._waiting]
        self.confirmed.clear()
        self._asked.clear()
        self._stale.clear()
        self._waiting = dict.fromkeys(again)

    def wait_for(self, channels: Sequence[bytes]) -> Waiter:
        """Return a waiter for ``channels``, which are wanted and not yet confirmed."""
        waiter = Waiter(len(channels))
        for channel in channels:
            self._waiters.setdefault(channel, []).append(waiter)
        return waiter

    def give_up(self, waiter: Waiter, channels: Iterable[bytes]) -> None:
        """Forget ``waiter``; its channels then count as ones that may miss messages until confirmed."""
        for channel in channels:
            waiters = self._waiters.get(channel)
            if waiters and waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[channel]
                if channel not in self.confirmed:
                    self._lost.add(channel)


class Waiter:
    """Somebody waiting for a number of channels to be confirmed."""

    __slots__ = ("done", "remaining")

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def one_confirmed(self) -> None:
        """Count one confirmation; the last one ends the wait."""
        self.remaining -= 1
        if self.remaining == 0 and not self.done.done():
            self.done.set_result(None)
