"""Entries in a history writer's hands, by user and day, and which of them are due to be stored. Pure.

Rows of one user and day go into one partition of the store, and ten of them in one statement cost a fifth of ten
statements. So an entry may linger for a while until others join it. It waits in the stream all the same: nothing is at
risk but the memory, which is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from location_history.entries import StreamEntry
from nearby.model import UserId

GROUP_COUNT = 10
"""Entries of one user and day that are due at once. Twice as many save little more."""
DAY_MS = 86_400_000


class Gathering:
    """Holds entries for ``linger_s`` seconds at most, and of one user and day less than :data:`GROUP_COUNT`.

    Above ``limit_count`` entries in all the oldest are due, however long they have lingered.
    """

    def __init__(self, linger_s: float, limit_count: int) -> None:
        self.held_count = 0
        self._linger_s = linger_s
        self._limit_count = limit_count
        self._due: deque[list[StreamEntry]] = deque()
        # In the order in which they were begun, so the first is the first to be due.
        self._open: dict[tuple[UserId, int], tuple[float, list[StreamEntry]]] = {}

    @property
    def is_full(self) -> bool:
        """Whether no more should be added."""
        return self.held_count >= self._limit_count

    def add(self, entries: Sequence[StreamEntry], now_s: float) -> None:
        """Take ``entries`` at ``now_s`` (of a clock that never goes back)."""
        if not entries:
            return
        self.held_count += len(entries)
        if not self._linger_s:
            self._due.append(list(entries))
            return
        for entry in entries:
            key = (entry.point.user_id, entry.point.location.recorded_at_ms // DAY_MS)
            known = self._open.get(key)
            if known is None:
                self._open[key] = (now_s, [entry])
                continue
            group = known[1]
            group.append(entry)
            if len(group) == GROUP_COUNT:
                del self._open[key]
                self._due.append(group)

    def take(self, count: int, now_s: float, *, everything: bool = False) -> list[StreamEntry]:
        """Return entries that are due at ``now_s``, no more than ``count``; with ``everything`` the others, too."""
        taken: list[StreamEntry] = []
        while len(taken) < count:
            group = self._next_due(now_s, everything, self.held_count - len(taken))
            if group is None:
                break
            room = count - len(taken)
            taken += group[:room]
            if len(group) > room:
                self._due.appendleft(group[room:])
        self.held_count -= len(taken)
        return taken

    def due_in_s(self, now_s: float) -> float | None:
        """Return the seconds until something is due, 0 if it is already; ``None`` if nothing is held."""
        if self._due or (self._open and self.is_full):
            return 0.0
        if not self._open:
            return None
        began_s, _ = next(iter(self._open.values()))
        return max(0.0, began_s + self._linger_s - now_s)

    def _next_due(self, now_s: float, everything: bool, held_count: int) -> list[StreamEntry] | None:
        if self._due:
            return self._due.popleft()
        if not self._open:
            return None
        key = next(iter(self._open))
        began_s, group = self._open[key]
        if not everything and began_s + self._linger_s > now_s and held_count < self._limit_count:
            return None
        del self._open[key]
        return group
