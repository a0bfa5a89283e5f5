"""What the dashboards show: for each a list of rows, for each row its panels. ``grafana.py`` makes JSON of it."""

from __future__ import annotations

from monitoring.panel import Dashboard, Panel, Row


def _panel(title: str, unit: str, *queries: tuple[str, str], description: str = "") -> Panel:
    return Panel(title, unit, queries, description)


def _quantiles(metric: str, by: str = "") -> tuple[tuple[str, str], ...]:
    labels = f"le, {by}" if by else "le"
    legend = f"{{{{{by}}}}} " if by else ""
    return tuple(
        (f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket[5m])))", f"{legend}p{round(q * 100)}")
        for q in (0.5, 0.99)
    )


OVERVIEW = Dashboard(
    "nearby-overview",
    "nearby: overview",
    (
        Row(
            "Objectives",
            (
                _panel(
                    "Bad events, last 5 minutes",
                    "percentunit",
                    ("nearby:slo_errors:ratio_rate5m", "{{slo}}"),
                    description="The part of each objective's events that were bad.",
                ),
                _panel(
                    "Error budget left, of 3 days",
                    "percentunit",
                    ("1 - nearby:slo_errors:ratio_rate3d / on (slo) (1 - nearby:slo_objective:ratio)", "{{slo}}"),
                    description="Below zero: the last three days were worse than the objective.",
                ),
                _panel(
                    "Alerts firing", "short", ('count by (alertname) (ALERTS{alertstate="firing"})', "{{alertname}}")
                ),
            ),
        ),
        Row(
            "What users see",
            (
                _panel("From the cache to the screen", "s", *_quantiles("nearby_gateway_fan_out_seconds")),
                _panel(
                    "Friends on maps by age",
                    "percentunit",
                    (
                        "sum by (age) (rate(nearby_gateway_shown_locations_sampled_total[5m]))"
                        " / ignoring (age) group_left sum(rate(nearby_gateway_shown_locations_sampled_total[5m]))",
                        "{{age}}",
                    ),
                ),
                _panel("API latency", "s", *_quantiles("nearby_api_request_seconds")),
            ),
        ),
        Row(
            "Traffic",
            (
                _panel("Connections", "short", ("sum(nearby_gateway_connections)", "connections")),
                _panel(
                    "Reports and deliveries",
                    "ops",
                    ("sum(rate(nearby_gateway_reports_total[5m]))", "reports"),
                    ("sum(rate(nearby_gateway_deliveries_total[5m]))", "deliveries"),
                ),
                _panel(
                    "API requests", "reqps", ("sum by (status) (rate(nearby_api_requests_total[5m]))", "{{status}}")
                ),
            ),
        ),
        Row(
            "Processes",
            (
                _panel("Up", "short", ('sum by (job) (up{job=~"nearby-.+"})', "{{job}}")),
                _panel("CPU", "percentunit", ("sum by (job) (rate(process_cpu_seconds_total[5m]))", "{{job}}")),
                _panel("Memory", "bytes", ("sum by (job) (process_resident_memory_bytes)", "{{job}}")),
                _panel("Versions", "short", ("count by (job, version) (nearby_build_info)", "{{job}} {{version}}")),
            ),
        ),
    ),
)

GATEWAY = Dashboard(
    "nearby-gateway",
    "nearby: gateways",
    (
        Row(
            "Connections",
            (
                _panel(
                    "Connections, and how many there may be",
                    "short",
                    ("nearby_gateway_connections", "{{instance}}"),
                    ("max(nearby_gateway_connection_limit)", "limit"),
                ),
                _panel(
                    "Accepted and refused",
                    "cps",
                    ("sum(rate(nearby_gateway_connections_accepted_total[5m]))", "accepted"),
                    (
                        "sum by (status, reason) (rate(nearby_gateway_upgrades_refused_total[5m]))",
                        "{{status}} {{reason}}",
                    ),
                ),
                _panel("Arrivals", "cps", ("sum by (end) (rate(nearby_gateway_arrivals_total[5m]))", "{{end}}")),
                _panel("From a good token to the map", "s", *_quantiles("nearby_gateway_arrival_seconds")),
                _panel(
                    "Closed",
                    "cps",
                    (
                        "sum by (code, initiator) (rate(nearby_gateway_connections_closed_total[5m]))",
                        "{{code}} {{initiator}}",
                    ),
                ),
                _panel("Clients that do not read", "short", ("nearby_gateway_blocked_clients", "{{instance}}")),
            ),
        ),
        Row(
            "Reports",
            (
                _panel(
                    "Reports",
                    "ops",
                    ("sum(rate(nearby_gateway_reports_total[5m]))", "taken"),
                    ("sum(rate(nearby_gateway_reports_acknowledged_total[5m]))", "acknowledged"),
                    ("sum(rate(nearby_gateway_reports_unavailable_total[5m]))", "unavailable"),
                    ("sum(rate(nearby_gateway_reports_outdone_total[5m]))", "outdone by another device"),
                ),
                _panel(
                    "Refused because too many waited",
                    "ops",
                    ("sum(rate(nearby_gateway_reports_refused_total[5m]))", "reports"),
                    ("sum(rate(nearby_gateway_batches_refused_total[5m]))", "batches"),
                ),
            ),
        ),
        Row(
            "Fan-out",
            (
                _panel("From the cache to the screen", "s", *_quantiles("nearby_gateway_fan_out_seconds", "instance")),
                _panel(
                    "Work",
                    "ops",
                    ("sum(rate(nearby_gateway_marks_total[5m]))", "pairs marked"),
                    ("sum(rate(nearby_gateway_comparisons_total[5m]))", "pairs compared"),
                    ("sum(rate(nearby_gateway_deliveries_total[5m]))", "entries sent"),
                    ("sum(rate(nearby_gateway_update_frames_total[5m]))", "frames"),
                ),
                _panel("Viewers waiting", "short", ("nearby_gateway_outbox_viewers", "{{instance}}")),
                _panel("Channels watched", "short", ("nearby_gateway_channels", "{{instance}}")),
            ),
        ),
        Row(
            "Health",
            (
                _panel("Event loop late by", "s", ("nearby_gateway_event_loop_lag_seconds", "{{instance}}")),
                _panel("Stood still", "short", ("increase(nearby_gateway_stalls_total[15m])", "{{instance}}")),
                _panel("The cache's clock is ahead by", "s", ("nearby_gateway_clock_offset_seconds", "{{instance}}")),
                _panel(
                    "Memory",
                    "bytes",
                    ('process_resident_memory_bytes{job="nearby-gateway"}', "{{instance}}"),
                ),
                _panel(
                    "CPU",
                    "percentunit",
                    ('rate(process_cpu_seconds_total{job="nearby-gateway"}[5m])', "{{instance}}"),
                ),
                _panel(
                    "Messages that cannot be read",
                    "ops",
                    ("sum(rate(nearby_gateway_unreadable_messages_total[5m]))", "messages"),
                ),
            ),
        ),
    ),
)

RING = Dashboard(
    "nearby-ring",
    "nearby: ring and shards",
    (
        Row(
            "Ring",
            (
                _panel(
                    "Epoch in force",
                    "short",
                    ("nearby_gateway_ring_epoch", "{{instance}}"),
                    ("max(nearby_ring_epoch)", "keeper"),
                ),
                _panel("Leading keepers", "short", ("sum(nearby_ring_keeper_leading)", "leading")),
                _panel("Spares that answer", "short", ("max(nearby_ring_spares)", "spares")),
                _panel(
                    "Changes of the ring",
                    "short",
                    ("sum by (action) (increase(nearby_ring_keeper_actions_total[1h]))", "{{action}}"),
                ),
                _panel(
                    "Rings refused, writes too late",
                    "short",
                    ("sum(increase(nearby_gateway_rings_refused_total[1h]))", "refused by gateways"),
                    ("sum(increase(nearby_ring_refused_total[1h]))", "refused by keepers"),
                    ("sum(increase(nearby_ring_keeper_conflicts_total[1h]))", "written too late"),
                ),
            ),
        ),
        Row(
            "Shards",
            (
                _panel(
                    "Gateways connected",
                    "percentunit",
                    ("avg by (slot) (nearby_gateway_shard_connected)", "{{slot}}"),
                ),
                _panel(
                    "Members that do not reach it",
                    "short",
                    ("max by (slot) (nearby_ring_unreachable_reports)", "{{slot}}"),
                ),
                _panel(
                    "Published",
                    "ops",
                    ("sum by (slot) (rate(nearby_gateway_shard_published_total[5m]))", "{{slot}}"),
                ),
                _panel(
                    "Received",
                    "ops",
                    ("sum by (slot) (rate(nearby_gateway_shard_received_total[5m]))", "{{slot}}"),
                ),
                _panel(
                    "Dropped and refused",
                    "ops",
                    ("sum by (slot) (rate(nearby_gateway_shard_dropped_total[5m]))", "{{slot}} dropped"),
                    ("sum by (slot) (rate(nearby_gateway_shard_publishes_refused_total[5m]))", "{{slot}} refused"),
                ),
                _panel(
                    "Connections made, probes lost",
                    "short",
                    ("sum by (slot) (increase(nearby_gateway_shard_connects_total[5m]))", "{{slot}} connects"),
                    ("sum by (slot) (increase(nearby_gateway_shard_probe_failures_total[5m]))", "{{slot}} probes lost"),
                ),
                _panel(
                    "Read from the cache instead",
                    "ops",
                    ("sum(rate(nearby_gateway_rereads_total[5m]))", "locations"),
                ),
            ),
        ),
    ),
)

STORES = Dashboard(
    "nearby-stores",
    "nearby: stores",
    (
        Row(
            "Cache and stream",
            (
                _panel(
                    "Calls that failed",
                    "ops",
                    ("sum by (store) (rate(nearby_gateway_store_failures_total[5m]))", "gateways, {{store}}"),
                    ("sum by (store) (rate(nearby_history_failures_total[5m]))", "history writers, {{store}}"),
                ),
                _panel(
                    "Locations read again",
                    "ops",
                    ("sum(rate(nearby_gateway_rereads_total[5m]))", "locations"),
                ),
            ),
        ),
        Row(
            "History",
            (
                _panel(
                    "Points",
                    "ops",
                    ("sum(rate(nearby_gateway_history_points_appended_total[5m]))", "taken by the stream"),
                    ("sum(rate(nearby_history_points_written_total[5m]))", "stored"),
                    ("sum(rate(nearby_history_points_fenced_total[5m]))", "dropped: deleted since"),
                ),
                _panel(
                    "Waiting to be stored",
                    "short",
                    ("max(nearby_history_stream_entries)", "in the streams"),
                    ("sum(nearby_history_points_held)", "held by writers"),
                ),
                _panel("Age of the oldest", "s", ("max(nearby_history_stream_oldest_seconds)", "oldest")),
                _panel("Lost", "short", ("max(nearby_history_points_lost)", "points")),
                _panel("Streams by writer", "short", ("nearby_history_streams", "{{instance}}")),
                _panel(
                    "Ended, unreadable",
                    "ops",
                    ("sum(rate(nearby_history_points_expired_total[5m]))", "retention ended"),
                    ("sum(nearby_history_unreadable_entries)", "unreadable"),
                ),
            ),
        ),
        Row(
            "User database, seen from the API",
            (
                _panel(
                    "Slowest routes, p99",
                    "s",
                    (
                        "topk(10, histogram_quantile(0.99,"
                        " sum by (le, route) (rate(nearby_api_request_seconds_bucket[5m]))))",
                        "{{route}}",
                    ),
                ),
                _panel(
                    "Erasures attempted",
                    "short",
                    ("sum by (end) (increase(nearby_api_erasure_attempts_total[15m]))", "{{end}}"),
                ),
                _panel(
                    "Answers 5xx",
                    "reqps",
                    (
                        'sum by (route, status) (rate(nearby_api_requests_total{status=~"5.."}[5m]))',
                        "{{status}} {{route}}",
                    ),
                ),
            ),
        ),
    ),
)

DRAIN = Dashboard(
    "nearby-drain",
    "nearby: drain",
    (
        Row(
            "Draining",
            (
                _panel("Draining", "short", ("nearby_gateway_draining", "{{instance}}")),
                _panel("Connections", "short", ("nearby_gateway_connections", "{{instance}}")),
                _panel(
                    "Told to reconnect (1012)",
                    "cps",
                    (
                        'sum by (instance) (rate(nearby_gateway_connections_closed_total{code="1012"}[1m]))',
                        "{{instance}}",
                    ),
                ),
                _panel(
                    "Cut off (1006)",
                    "cps",
                    (
                        'sum by (instance) (rate(nearby_gateway_connections_closed_total{code="1006"}[1m]))',
                        "{{instance}}",
                    ),
                ),
                _panel(
                    "Arriving elsewhere",
                    "cps",
                    (
                        'sum by (instance) (rate(nearby_gateway_arrivals_total{end="served"}[1m]))',
                        "{{instance}}",
                    ),
                ),
                _panel(
                    "Refused",
                    "cps",
                    (
                        "sum by (instance, reason) (rate(nearby_gateway_upgrades_refused_total[1m]))",
                        "{{instance}} {{reason}}",
                    ),
                ),
            ),
        ),
    ),
)

DASHBOARDS = (OVERVIEW, GATEWAY, RING, STORES, DRAIN)
