"""Reading a range of the history oldest first, in constant memory, from a store that reads newest first.

The first pass keeps only where each page ends, eight bytes per thousand points; the second reads the pages backwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise

from nearby.model import HistoryPoint, UserId
from nearby.ports import HistoryStore

PAGE_COUNT = 1_000


@dataclass(frozen=True, slots=True)
class Range:
    """Points of ``user_id`` with ``from_ms`` <= recorded < ``to_ms``, cut into pages at ``bounds_ms``, which fall.

    ``count`` is how many there were when it was measured.
    """

    user_id: UserId
    from_ms: int
    to_ms: int
    bounds_ms: tuple[int, ...]
    count: int


async def measure(history: HistoryStore, user_id: UserId, from_ms: int, to_ms: int) -> Range:
    """Return the range, cut into pages of :data:`PAGE_COUNT` points.

    Raises:
        StoreUnavailable: the store did not answer.
    """
    bounds_ms: list[int] = []
    count = 0
    before_ms: int | None = to_ms
    while before_ms is not None:
        page = await history.read(user_id, from_ms, before_ms, PAGE_COUNT)
        count += len(page.points)
        before_ms = page.next_before_ms
        if before_ms is not None:
            bounds_ms.append(before_ms)
    return Range(user_id, from_ms, to_ms, tuple(bounds_ms), count)


async def oldest_first(history: HistoryStore, wanted: Range) -> AsyncIterator[list[HistoryPoint]]:
    """Yield the points of ``wanted`` page by page, oldest first; one that came meanwhile may be among them.

    Raises:
        StoreUnavailable: the store did not answer.
    """
    edges_ms = [wanted.from_ms, *reversed(wanted.bounds_ms), wanted.to_ms]
    for from_ms, to_ms in pairwise(edges_ms):
        points: list[HistoryPoint] = []
        before_ms: int | None = to_ms
        while before_ms is not None:
            page = await history.read(wanted.user_id, from_ms, before_ms, PAGE_COUNT)
            points += page.points
            before_ms = page.next_before_ms
        points.reverse()
        yield points
