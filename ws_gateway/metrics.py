"""What a gateway tells Prometheus. Nothing is counted here: the parts keep plain integers, read when scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from location_history.stream import RedisHistoryStream
from nearby.ports import Discovery
from pubsub_router.router import Router
from ws_gateway.arrivals import ArrivalEnd
from ws_gateway.freshness import Age
from ws_gateway.gateway import Gateway
from ws_gateway.histogram import Histogram
from ws_gateway.upkeep import LoopLag


class GatewayCollector(Collector):
    """Reads the counters of one gateway; no label names a user."""

    def __init__(
        self, gateway: Gateway, router: Router, discovery: Discovery, stream: RedisHistoryStream, lag: LoopLag
    ) -> None:
        self._gateway = gateway
        self._stream = stream
        self._router = router
        self._discovery = discovery
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._connections()
        yield from self._upgrades()
        yield from self._reports()
        yield from self._deliveries()
        yield from self._stores()
        yield from self._shards()

    def _connections(self) -> Iterator[Metric]:
        gateway = self._gateway
        yield _gauge("connections", "Open WebSocket connections", len(gateway.connections))
        yield _gauge("connection_limit", "How many connections there may be", gateway.connection_limit)
        yield _gauge("draining", "1 from the moment in which no new client is let in", gateway.draining)
        yield _gauge("channels", "Location channels with a viewer here", len(gateway.hub.entries))
        yield _gauge("event_loop_lag_seconds", "How late the event loop was in the last second", self._lag.lag_s)
        closed = CounterMetricFamily(
            "nearby_gateway_connections_closed", "Connections closed", labels=["code", "initiator"]
        )
        for (code, initiator), count in gateway.closed_counts.items():
            closed.add_metric([str(code), initiator], count)
        yield closed
        yield _gauge("blocked_clients", "Clients that leave their backlog unread", len(gateway.blocked_clients))

    def _upgrades(self) -> Iterator[Metric]:
        gateway = self._gateway
        yield _counter("connections_accepted", "Clients let in", gateway.accepted_count)
        refused = CounterMetricFamily(
            "nearby_gateway_upgrades_refused",
            "Clients refused before there was a WebSocket; status 0: without an answer",
            labels=["status", "reason"],
        )
        for (status, reason), count in gateway.refused_counts.items():
            refused.add_metric([str(status), reason], count)
        yield refused
        arrivals = CounterMetricFamily(
            "nearby_gateway_arrivals", "Clients with a good token, by what became of them", labels=["end"]
        )
        for end in ArrivalEnd:
            arrivals.add_metric([end.value], gateway.arrivals.counts[end])
        yield arrivals
        yield _histogram(
            "arrival_seconds",
            "From a good token to the friends being loaded, of those served",
            gateway.arrivals.seconds,
        )

    def _reports(self) -> Iterator[Metric]:
        gateway = self._gateway
        yield _counter("reports", "Location reports taken", gateway.report_count)
        yield _counter("reports_acknowledged", "Reports that every store took", gateway.acknowledged_count)
        yield _counter("reports_unavailable", "Reports answered with `unavailable`", gateway.unavailable_count)
        yield _counter("history_points_appended", "Points that a history stream took", self._stream.appended_count)
        yield _counter("reports_refused", "Reports refused because too many waited", gateway.pipeline.refused_count)
        yield _counter("batches_refused", "Batches refused because too many waited", gateway.batches.refused_count)
        yield _counter(
            "reports_outdone", "Reports of a device while another is its user's source", gateway.outdone_count
        )

    def _deliveries(self) -> Iterator[Metric]:
        gateway, outbox = self._gateway, self._gateway.outbox
        yield _counter("marks", "Viewer and friend pairs marked as changed", gateway.hub.marked_count)
        yield _counter("comparisons", "Marked pairs compared; marks beyond these were merged", outbox.compared_count)
        yield _counter("deliveries", "Friend entries sent in updates", outbox.delivered_count)
        yield _counter("update_frames", "Update frames sent", outbox.frame_count)
        yield _gauge("outbox_viewers", "Viewers waiting for their update", len(outbox))
        yield _counter("stalls", "Times that the process stood still and read everything again", outbox.stall_count)
        yield _histogram(
            "fan_out_seconds",
            "From the write to the cache to the updates sent, of the first location in each read from a shard",
            gateway.fan_out_s,
        )
        sampled = CounterMetricFamily(
            "nearby_gateway_shown_locations_sampled",
            "Friends on maps, looked at now and then: heard of lately, silent by the cache's word, or stale",
            labels=["age"],
        )
        for age in Age:
            sampled.add_metric([age.value], gateway.refresher.freshness.counts[age])
        yield sampled
        yield _counter("unreadable_messages", "Pub/sub messages that were not understood", gateway.unreadable_count)

    def _stores(self) -> Iterator[Metric]:
        gateway = self._gateway
        failures = CounterMetricFamily("nearby_gateway_store_failures", "Calls that a store failed", labels=["store"])
        failures.add_metric(["location_cache"], gateway.pipeline.cache_guard.failures_count)
        failures.add_metric(["history_stream"], gateway.pipeline.stream_guard.failures_count)
        failures.add_metric(["history_stream_batches"], gateway.batches.failures_count)
        failures.add_metric(["location_cache_read"], gateway.refresher.failures_count)
        yield failures
        yield _gauge(
            "clock_offset_seconds",
            "By how much the cache's clock, which dates locations, is ahead of ours",
            gateway.cache_clock.offset_s,
        )
        yield _counter("rereads", "Locations read again after a gap or when overdue", gateway.refresher.reread_count)
        yield _counter("rings_refused", "Rings refused: empty, unparsable or older", self._discovery.refused_rings)

    def _shards(self) -> Iterator[Metric]:
        yield _gauge("ring_epoch", "Epoch of the ring in force", self._router.switched_epoch)
        shards = self._router.shards.values()
        connected = GaugeMetricFamily("nearby_gateway_shard_connected", "Shard connection is up", labels=["slot"])
        for shard in shards:
            connected.add_metric([shard.slot], shard.connected)
        yield connected
        for name, meaning, attribute in _SHARD_COUNTERS:
            family = CounterMetricFamily(f"nearby_gateway_shard_{name}", meaning, labels=["slot"])
            for shard in shards:
                family.add_metric([shard.slot], getattr(shard, attribute))
            yield family


_SHARD_COUNTERS = (
    ("connects", "Connections made to the shard", "connections_count"),
    ("probe_failures", "Connections dropped because the probe did not return", "probe_failures_count"),
    ("published", "Messages published", "published_count"),
    ("received", "Messages received", "received_count"),
    ("dropped", "Messages dropped while the shard was away, the oldest first", "dropped_count"),
    ("publishes_refused", "Publishes that the shard answered with an error", "refused_count"),
)


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"nearby_gateway_{name}", meaning, value)


def _counter(name: str, meaning: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"nearby_gateway_{name}", meaning, value)


def _histogram(name: str, meaning: str, histogram: Histogram) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"nearby_gateway_{name}", meaning, histogram.buckets(), histogram.sum)
