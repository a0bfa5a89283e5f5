"""The metrics that every process has: its memory, CPU and descriptors, and which version it is."""

from __future__ import annotations

import platform

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Gauge,
    disable_created_metrics,
)

import nearby


def process_registry() -> CollectorRegistry:
    """Return a registry with the metrics of this process, for others to be added."""
    disable_created_metrics()  # a second series beside each counter, which Prometheus does not need
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    build = Gauge("nearby_build_info", "1, labelled with what runs here", ["version", "python"], registry=registry)
    build.labels(nearby.__version__, platform.python_version()).set(1)
    return registry
