"""Makes the JSON of Grafana's dashboards: ``python -m monitoring.grafana`` writes ``monitoring/dashboards/``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monitoring.panel import Dashboard, Panel
from monitoring.panels import DASHBOARDS

DIRECTORY = Path(__file__).parent / "dashboards"
_SCHEMA_VERSION = 39
_SOURCE = {"type": "prometheus", "uid": "${source}"}
_COLUMNS = 24
_WIDTH, _HEIGHT = 8, 8


def rendered(dashboard: Dashboard) -> str:
    """Return the JSON document of ``dashboard``, as Grafana imports it and its provisioning reads it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in dashboard.rows:
        panels.append(_at({"type": "row", "title": row.title, "collapsed": False, "panels": []}, 0, top, _COLUMNS, 1))
        top += 1
        for place, panel in enumerate(row.panels):
            line, left = divmod(place * _WIDTH, _COLUMNS)
            panels.append(_at(_graph(panel), left, top + line * _HEIGHT, _WIDTH, _HEIGHT))
        top += -(-len(row.panels) * _WIDTH // _COLUMNS) * _HEIGHT
    for number, each in enumerate(panels, start=1):
        each["id"] = number
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    document = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["nearby"],
        "schemaVersion": _SCHEMA_VERSION,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }
    return json.dumps(document, indent=2) + "\n"


def _graph(panel: Panel) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for place, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _at(panel: dict[str, Any], left: int, top: int, width: int, height: int) -> dict[str, Any]:
    return {**panel, "gridPos": {"x": left, "y": top, "w": width, "h": height}}


def main() -> None:
    """Write every dashboard."""
    DIRECTORY.mkdir(exist_ok=True)
    for dashboard in DASHBOARDS:
        (DIRECTORY / f"{dashboard.uid}.json").write_text(rendered(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
