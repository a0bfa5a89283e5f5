"""What a ring keeper tells Prometheus; the keeper keeps plain integers, read when scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pubsub_router.keeper import RingKeeper

_ACTIONS = ("resize", "commit", "finish", "abort", "replace", "spares")
"""Shown from the start, so that a rate over the first one sees it."""


class KeeperCollector(Collector):
    """Reads the counters of one keeper."""

    def __init__(self, keeper: RingKeeper) -> None:
        self._keeper = keeper

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        keeper = self._keeper
        yield GaugeMetricFamily("nearby_ring_keeper_leading", "Whether this keeper leads", value=int(keeper.leading))
        yield GaugeMetricFamily("nearby_ring_epoch", "The ring in force", value=keeper.ring.epoch if keeper.ring else 0)
        actions = CounterMetricFamily(
            "nearby_ring_keeper_actions", "Changes of the ring that this keeper wrote", labels=["action"]
        )
        for action in _ACTIONS:
            actions.add_metric([action], keeper.action_counts[action])
        yield actions
        unreachable = GaugeMetricFamily(
            "nearby_ring_unreachable_reports", "Members, this keeper included, a shard does not answer", labels=["slot"]
        )
        for slot, count in keeper.unreachable_votes().items():
            unreachable.add_metric([slot], count)
        yield unreachable
        view = keeper.view()
        yield GaugeMetricFamily(
            "nearby_ring_spares", "Spares that answer this keeper", value=len(view.answering_spares) if view else 0
        )
        yield CounterMetricFamily(
            "nearby_ring_keeper_conflicts", "Writes that came too late", value=keeper.conflicts_count
        )
        yield CounterMetricFamily(
            "nearby_ring_refused", "Rings refused as empty, unparsable or older", value=keeper.refused_rings
        )
