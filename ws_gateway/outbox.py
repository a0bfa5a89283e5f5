"""Sends marked viewers what changed for them, within a time budget per turn of the event loop. Pure.

With headroom the queue empties at once and each change is a frame of its own. Under overload a viewer's turn comes
later and everything marked meanwhile goes out as one frame: latency grows, throughput too, and memory does not. A
viewer whose client does not take what it was sent is passed over; its marks stay, one per friend at most.

Somebody must call :meth:`Outbox.flush` once a second. If nobody could for :data:`STALL_S`, the process stood still, and
what it knows may have expired: then nothing is sent until :meth:`Outbox.release`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import asin, sqrt

from nearby.codecs import CODECS
from nearby.geo import EARTH_DIAMETER_M
from ws_gateway.entry import Entry
from ws_gateway.hub import Hub
from ws_gateway.viewer import Viewer

BUDGET_S = 0.005
"""How long one flush may hold the event loop, seconds."""
STALL_S = 5.0
MAX_AT_ONCE = 400
"""Viewers who are told of a change without looking whether there is more for them: of ten friends or so, in about a
millisecond. With more changes than that at once it pays to merge."""
_CHECK_EVERY = 16


class Outbox:
    """The queue of marked viewers of ``hub``.

    ``later`` schedules :meth:`flush` on the next turn of the loop; ``clock`` is in seconds. ``stalled`` is called when
    the outbox begins to hold back what is due (``held``). Up to ``at_once`` viewers are told of a friend's move without
    being marked first.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        later: Callable[[Callable[[], None]], object],
        clock: Callable[[], float],
        stalled: Callable[[], None],
        at_once: int = MAX_AT_ONCE,
    ) -> None:
        self.held = False
        self.delivered_count = 0
        self.compared_count = 0
        self.frame_count = 0
        self.stall_count = 0
        self._hub = hub
        self._later = later
        self._clock = clock
        self._stalled = stalled
        self._at_once = at_once
        self._checked_at_s = clock()
        self._queue: deque[Viewer] = deque()
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._queue) + len(self._hub.queue)

    def flush(self) -> None:
        """Send what is due, for at most :data:`BUDGET_S`; what is left goes on the next turn of the loop."""
        self._scheduled = False
        hub, queue = self._hub, self._queue
        hub.advance()  # so that nothing leaves at a tier that has ended
        now_s = self._clock()
        if not self._may_send(now_s):
            hub.mark_moved()
            return
        if hub.moved:
            if sum([len(entry.viewers) for entry in hub.moved]) <= self._at_once:
                for entry in hub.moved:
                    self._tell(entry)
                hub.moved.clear()
            else:
                hub.mark_moved()
        queue.extend(hub.queue)
        hub.queue.clear()
        deadline_s = now_s + BUDGET_S
        turn = 0
        while queue:
            self._serve(queue.popleft())
            turn += 1
            if turn % _CHECK_EVERY == 0 and self._clock() >= deadline_s:
                break
        if queue:
            self.schedule()

    def burst_ended(self) -> None:
        """Send what a read from a shard changed, unless the last flush has left something.

        That is under overload: then what else there is to be read is read first, and the flush of the next turn merges
        more. It comes in any case.
        """
        if self._scheduled and self._queue:
            self._hub.mark_moved()
        else:
            self.flush()

    def may_send(self) -> bool:
        """Whether what is known may be sent, which it may not from a stall to the release."""
        return self._may_send(self._clock())

    def release(self) -> None:
        """What is known is true again: send what is due."""
        self.held = False
        self.flush()

    def _may_send(self, now_s: float) -> bool:
        if now_s - self._checked_at_s >= STALL_S:
            self.stall_count += 1
            self.held = True
            self._checked_at_s = now_s
            self._stalled()
        self._checked_at_s = now_s
        return not self.held

    def schedule(self) -> None:
        """Flush on the next turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self._later(self.flush)

    def resume(self, viewer: Viewer) -> None:
        """The client of ``viewer`` takes frames again."""
        if viewer.live and (viewer.pending or viewer.gone) and not viewer.queued:
            viewer.queued = True
            self._queue.append(viewer)
            self.schedule()

    def _tell(self, entry: Entry) -> None:
        """Send where ``entry`` is now to each viewer who sees it and goes on seeing it; mark the others.

        The short way of what most changes are. It decides nothing that :meth:`Viewer.changes` does not decide the same
        way, and leaves to that whatever else there may be to say.
        """
        if not entry.exact or not entry.sharing or entry.record is None:
            self._hub.mark_viewers(entry)
            return
        fx, fy, fz = entry.vector
        begun: list[bytes | None] = [None] * len(CODECS)
        hub = self._hub
        count = 0
        for viewer, shown in entry.viewers.items():
            if shown and not viewer.queued and viewer.client.writable:
                x, y, z = viewer.vector
                x -= fx
                y -= fy
                z -= fz
                squared = x * x + y * y + z * z
                if squared <= viewer.leave_squared:
                    codec = viewer.codec
                    begin = begun[codec.place]
                    if begin is None:
                        begin = begun[codec.place] = codec.one + (entry.fragments[codec.place] or entry.encode(codec))
                    distance_m = int(EARTH_DIAMETER_M * asin(sqrt(squared) * 0.5) + 0.5)
                    viewer.client.send_frame(begin + codec.ends_of_one[distance_m])
                    count += 1
                    continue
            hub.mark(entry, viewer)
        hub.marked_count += count
        self.compared_count += count
        self.delivered_count += count
        self.frame_count += count

    def _serve(self, viewer: Viewer) -> None:
        viewer.queued = False
        if not viewer.live or not viewer.client.writable:
            return
        pending = viewer.pending
        viewer.pending = {}
        self.compared_count += len(pending)
        changes = viewer.changes(pending)
        frame = viewer.codec.update(changes.friends, changes.gone)
        if frame is not None:
            self.delivered_count += len(changes.friends)
            self.frame_count += 1
            viewer.client.send_frame(frame)
