"""What a history writer shows on ``/metrics``."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from location_history.consumer import Backlog


class WriterMetrics:
    """The metrics of one history writer, registered with ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.written = Counter(
            "nearby_history_points_written", "Points stored and acknowledged by this writer", registry=registry
        )
        self.expired = Counter(
            "nearby_history_points_expired", "Points deleted because their retention ended", registry=registry
        )
        self.fenced = Counter(
            "nearby_history_points_fenced",
            "Points dropped because their owner has deleted them since",
            registry=registry,
        )
        self.failures = Counter(
            "nearby_history_failures", "Calls that a store did not answer", ["store"], registry=registry
        )
        for store in ("history", "history_stream"):
            self.failures.labels(store)  # shown from the start, so that a rate over the first one sees it
        self.unreadable = Gauge(
            "nearby_history_unreadable_entries",
            "Times this writer met a stream entry that it cannot read",
            registry=registry,
        )
        self.held = Gauge("nearby_history_points_held", "Points in this writer's memory", registry=registry)
        self.streams = Gauge(
            "nearby_history_streams", "Streams from which this writer takes new points", registry=registry
        )
        self._waiting = Gauge(
            "nearby_history_stream_entries", "Points in the streams that wait to be stored", registry=registry
        )
        self._oldest = Gauge(
            "nearby_history_stream_oldest_seconds", "Age of the oldest point in the streams", registry=registry
        )
        self._lost = Gauge(
            "nearby_history_points_lost",
            "Points dropped by the streams' bounds before they were stored, counted since the streams began",
            registry=registry,
        )

    def show(self, backlogs: Sequence[Backlog]) -> None:
        """Show what waits in the streams."""
        self._waiting.set(sum(backlog.entries_count for backlog in backlogs))
        self._oldest.set(max(backlog.oldest_s for backlog in backlogs))
        self._lost.set(sum(backlog.lost_count for backlog in backlogs))
