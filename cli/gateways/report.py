"""What ``nearby gateways`` tells: one row per gateway, from its admin port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from cli.gateways.admin_port import AdminPort, AdminUnreachable
from cli.gateways.find import Gateways

SAMPLE_S = 1.0
"""Over which reports are counted to give a rate."""
UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Row:
    """One gateway; ``None`` stands for what an unreachable one does not tell."""

    id: str
    state: str
    admin_url: str
    connections: int | None = None
    reports_per_s: float | None = None
    ring_epoch: int | None = None
    loop_lag_ms: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the row for ``--json``."""
        return asdict(self)


async def rows(ports: Sequence[AdminPort], gateways: Gateways) -> list[Row]:
    """Ask every gateway, over :data:`SAMPLE_S` seconds; an unreachable one has a row too.

    Raises:
        AdminRefused: the token is wrong.
    """
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_row(port, gateways.name(port.url))) for port in ports]
    return sorted((task.result() for task in asked), key=lambda row: row.id)


async def _row(port: AdminPort, name: str) -> Row:
    try:
        status = await port.drain_status()
        name = status.gateway_id
        began_s, before = time.monotonic(), await port.metrics()
        await asyncio.sleep(SAMPLE_S)
        after, took_s = await port.metrics(), time.monotonic() - began_s
    except AdminUnreachable:
        return Row(name, UNREACHABLE, port.url)

    def value(metric: str) -> float:
        return after.get(f"nearby_gateway_{metric}", 0.0)

    reports = value("reports_total") - before.get("nearby_gateway_reports_total", 0.0)
    return Row(
        name,
        status.state,
        port.url,
        int(value("connections")),
        round(reports / took_s, 1),
        int(value("ring_epoch")),
        round(value("event_loop_lag_seconds") * 1000, 1),
    )


def table(found: Sequence[Row]) -> Table:
    """Return ``found`` as a table for a terminal."""
    drawn = Table()
    for title in ("gateway", "state"):
        drawn.add_column(title)
    for title in ("connections", "reports/s", "ring epoch", "loop lag ms"):
        drawn.add_column(title, justify="right")
    for row in found:
        numbers = (row.connections, row.reports_per_s, row.ring_epoch, row.loop_lag_ms)
        drawn.add_row(row.id, row.state, *("-" if number is None else f"{number:,}" for number in numbers))
    return drawn
