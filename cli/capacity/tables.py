"""What ``nearby capacity`` shows: tables and lines made of a plan. Pure."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from cli.capacity.balance import Spread
from cli.capacity.plan import CITY_CROWD, COPIES, Plan

_STEPS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def plan_view(plan: Plan) -> Group:
    """Return the load, the servers, how evenly they are loaded, what costs, and what to beware of."""
    parts: list[RenderableType] = [_traffic(plan), "", _servers(plan), "", _hot_spots(plan), "", _drivers(plan)]
    parts += [f"Beware: {warning}." for warning in plan.warnings]
    parts.append("What this rests on, and how far to trust it: docs/capacity.md; --constants prints its figures.")
    return Group(*parts)


def _traffic(plan: Plan) -> Table:
    traffic, load = plan.traffic, plan.load
    table = Table(
        title=f"Load: {load.users:,} users", title_justify="left", box=None, show_header=False, pad_edge=False
    )
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_row("connected at once", _count(traffic.connections))
    table.add_row("location reports", f"{_count(traffic.reports)}/s")
    table.add_row(f"friends told of each, within {load.radius_km:g} km", f"{traffic.audience * load.near:,.1f}")
    table.add_row("deliveries to friends", f"{_count(traffic.deliveries)}/s")
    table.add_row("messages from shards to gateways", f"{_count(plan.gateways.messages)}/s")
    table.add_row("connects", f"{_count(traffic.connects)}/s")
    table.add_row("to clients", f"{8 * plan.gateways.egress_bytes_per_s / 1e9:,.2f} Gbit/s")
    table.add_row("from clients", f"{8 * plan.gateways.ingress_bytes_per_s / 1e9:,.2f} Gbit/s")
    return table


def _servers(plan: Plan) -> Table:
    table = Table(title="Servers", title_justify="left")
    for name in ("", "how many", "and standing by", "busy cores", "memory", "network", "disk"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_column("decided by")
    for role in plan.roles:
        used = role.used
        table.add_row(
            role.name,
            f"{role.count:,}",
            f"{role.standbys:,}" if role.standbys else "",
            f"{used.cores:,.1f}" if used.cores else "",
            size(used.memory_bytes),
            f"{8 * used.network_bytes_per_s / 1e9:,.2f} Gbit/s" if used.network_bytes_per_s else "",
            size(used.disk_bytes),
            role.limit,
        )
    return table


def _hot_spots(plan: Plan) -> Table:
    spots = plan.hot_spots
    gateways, shards = plan.role("gateway"), plan.role("pub/sub shard")
    table = Table(title="Hot spots", title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_row("fullest shard over the mean, by partitions of the ring", f"{spots.ring:.2f}")
    table.add_row("… by messages, if activity is Zipf and some are celebrities", _both(spots.shards))
    table.add_row("busiest gateway process over the mean", _both(spots.gateways))
    table.add_row("core of the fullest shard", f"{shards.used.cores / shards.count * spots.shards.worst:.0%}")
    table.add_row("core of the busiest gateway", f"{gateways.used.cores / gateways.count * spots.gateways.worst:.0%}")
    table.add_row("a celebrity's report keeps its shard busy for", f"{spots.celebrity_burst_s * 1e3:,.1f} ms")
    table.add_row(f"deliveries, if {CITY_CROWD:.0%} of the people meet in one place", f"{spots.city_factor:.2f} times")
    return table


def _both(spread: Spread) -> str:
    return f"{spread.middle:.2f}, at worst {spread.worst:.2f}"


def _drivers(plan: Plan) -> Table:
    drivers = plan.drivers
    table = Table(title="What it costs", title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_row("cores, with headroom and standbys", f"{drivers.cores:,.0f}")
    table.add_row("memory", size(drivers.memory_bytes))
    table.add_row("traffic to clients in a month", size(drivers.egress_bytes_per_month))
    table.add_row(
        f"disks, {COPIES} copies of {plan.load.retention_days:g} days, half-filled twice that", size(drivers.disk_bytes)
    )
    return table


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def size(count_bytes: float) -> str:
    """Return a number of bytes as people read it; nothing for none."""
    if not count_bytes:
        return ""
    for least, prefix in _STEPS:
        if count_bytes >= least:
            return f"{count_bytes / least:,.1f} {prefix}B"
    return f"{count_bytes:.0f} B"
