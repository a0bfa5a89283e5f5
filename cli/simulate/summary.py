"""The outcome of a run, for people and for programs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from cli.simulate.replay import ReplayResult
from cli.simulate.watch import Tally


@dataclass(frozen=True, slots=True)
class Summary:
    """What happened; ``ok`` if no assertion failed.

    ``deliveries`` are friend entries received, ``news`` those with a newer location of a friend in view. Their
    latencies count, from the report to the friend's screen.
    """

    ok: bool
    people: int
    friendships: int
    connected: int
    seconds: float
    reports: int
    acks: int
    acks_not_live: int
    deliveries: int
    news: int
    reports_per_s: float
    deliveries_per_s: float
    latency_ms: dict[str, float | None]
    errors: dict[str, int]
    disconnects: dict[str, int]
    reconnects: int
    wrong_distances: int
    violations: dict[str, int]
    examples: list[str]
    replay: ReplayResult | None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as what JSON can hold."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """Return the summary in words."""
        latency = ", ".join(f"{name} {value} ms" for name, value in self.latency_ms.items())
        found = [
            f"{self.people} people, {self.friendships} friendships, {self.connected} connected at the end",
            f"{self.reports} reports ({self.reports_per_s}/s), {self.acks} acknowledged",
            f"{self.deliveries} deliveries ({self.deliveries_per_s}/s), {self.news} of them news",
            f"from sending to a friend's screen: {latency}",
            f"errors {self.errors or 'none'}, disconnects {self.disconnects or 'none'}, reconnects {self.reconnects}",
        ]
        if self.replay is not None:
            replay = self.replay
            found.append(
                f"{replay.pairs} pairs, {replay.transitions} crossings of the radius compared, "
                f"{replay.mismatches} pairs differ, {replay.unconfirmed} reports unconfirmed, "
                f"{self.wrong_distances} wrong distances"
            )
        found += [f"FAILED {kind}: {count} times" for kind, count in self.violations.items()]
        return found + [f"  {example}" for example in self.examples]


def summarise(
    tally: Tally, *, people: int, friendships: int, connected: int, seconds: float, replay: ReplayResult | None
) -> Summary:
    """Return the summary of a run that reported for ``seconds``."""
    span_s = max(seconds, 1e-9)
    unconfirmed = replay.unconfirmed if replay is not None else 0
    return Summary(
        ok=not tally.violations and not unconfirmed,
        people=people,
        friendships=friendships,
        connected=connected,
        seconds=round(seconds, 1),
        reports=tally.reports,
        acks=tally.acks,
        acks_not_live=tally.acks_not_live,
        deliveries=tally.entries,
        news=tally.news,
        reports_per_s=round(tally.reports / span_s, 1),
        deliveries_per_s=round(tally.entries / span_s, 1),
        latency_ms=latencies_ms(tally),
        errors=dict(tally.errors),
        disconnects=dict(tally.ends),
        reconnects=tally.reconnects,
        wrong_distances=tally.violations["wrong_distance"],
        violations={kind: count for kind, count in tally.violations.items() if count},
        examples=tally.examples,
        replay=replay,
    )


def latencies_ms(tally: Tally) -> dict[str, float | None]:
    """Return the percentiles that are shown, milliseconds; ``None`` before the first delivery."""
    found: dict[str, float | None] = {}
    for percent in (50, 95, 99):
        latency_s = tally.latency.percentile_s(percent)
        found[f"p{percent}"] = None if latency_s is None else round(latency_s * 1000, 1)
    found["max"] = round(tally.latency.max_s * 1000, 1) if tally.latency.count else None
    return found
