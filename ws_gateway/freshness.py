"""How old what the maps show is: the freshness that operators promise (docs/monitoring.md). Pure.

Looked at by the patrol, some entries at a time, so that nothing is counted where locations are delivered. A friend
whose phone has gone silent grows old on every map, which is right; so a location counts as *stale* only if this gateway
has neither heard of the friend for a while nor asked the cache whether there is anything newer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from ws_gateway.entry import Entry


class Age(StrEnum):
    """Of a location on a map: heard of lately, silent by the cache's word, or not known to be the newest."""

    FRESH = "fresh"
    SILENT = "silent"
    STALE = "stale"


def stale_after_ms(report_interval_s: float) -> int:
    """Return how long a friend who reports may go unheard: one report may be lost, and 5 s are for the way."""
    return round((2 * report_interval_s + 5) * 1000)


class Freshness:
    """Counts pairs of a viewer and a friend on the viewer's map, by the :class:`Age` of what is shown."""

    def __init__(self) -> None:
        self.counts: Counter[Age] = Counter()

    def sample(self, entries: Iterable[Entry], now_ms: int, stale_after_ms: int) -> None:
        """Count each map that shows one of ``entries``. To be called before they are marked to be read again."""
        for entry in entries:
            if entry.record is not None:
                self.counts[_age(entry, now_ms - stale_after_ms)] += sum(entry.viewers.values())


def _age(entry: Entry, since_ms: int) -> Age:
    if entry.heard_ms >= since_ms:
        return Age.FRESH
    return Age.SILENT if entry.fresh else Age.STALE
