"""What the prober shows on ``/metrics``. Gateways are named ``HOST:PORT``, as they were reached."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 35, 65)


class ProberMetrics:
    """The metrics of one prober, registered with ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        pair = ["from", "to"]
        self._probes = Counter(
            "nearby_prober_probes",
            "Locations sent, by the gateways of sender and viewer and by whether they were seen within 65 s",
            [*pair, "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "nearby_prober_seen_seconds",
            "From sending a location to seeing it on a friend's map",
            pair,
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._connected = Gauge(
            "nearby_prober_connected",
            "Whether each synthetic friend at this gateway is connected",
            ["gateway"],
            registry=registry,
        )

    def begin(self, gateways: Iterable[str]) -> None:
        """Probe ``gateways`` from now on, and no others: each pair is shown from the start."""
        for metric in (self._probes, self._seconds, self._connected):
            metric.clear()
        names = list(gateways)
        for sender in names:
            self._connected.labels(sender).set(0)
            for viewer in names:
                self._seconds.labels(sender, viewer)
                for outcome in ("seen", "lost"):
                    self._probes.labels(sender, viewer, outcome)

    def seen(self, sender: str, viewer: str, took_s: float) -> None:
        """Count a location that was seen."""
        self._probes.labels(sender, viewer, "seen").inc()
        self._seconds.labels(sender, viewer).observe(took_s)

    def lost(self, sender: str, viewer: str) -> None:
        """Count a location that was not."""
        self._probes.labels(sender, viewer, "lost").inc()

    def connected(self, gateway: str, *, connected: bool) -> None:
        """Show whether everybody at ``gateway`` is connected."""
        self._connected.labels(gateway).set(connected)
