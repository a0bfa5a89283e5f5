"""What ``nearby ring`` shows: tables and lines made of the keeper's documents. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from cli.ring.client import Document


def ring_view(ring: Document) -> Group:
    """Return the shards, the spares, what is going on, the members and the last actions."""
    parts: list[RenderableType] = [_shards(ring), *spare_lines(ring)]
    keepers = ", ".join(ring["keepers"]) or "none"
    parts.append(f"Leader: {ring['leader'] or 'none elected'} (keepers: {keepers}). Now: {ring['next']}.")
    if ring["resize"] is not None:
        parts.append(progress_line(ring["resize"]))
    parts.append(_members(ring))
    if ring["actions"]:
        parts.append(history_table(ring["actions"][-5:], "Last actions"))
    return Group(*parts)


def _shards(ring: Document) -> Table:
    resizing = any(shard["partitions_next"] is not None for shard in ring["shards"])
    table = Table(title=f"Ring {ring['epoch']}: {len(ring['shards'])} pub/sub shards", title_justify="left")
    table.add_column("slot", no_wrap=True)
    table.add_column("address", overflow="fold")
    table.add_column("partitions", justify="right")
    table.add_column("share", justify="right")
    if resizing:
        table.add_column("then", justify="right")
    table.add_column("reachable")
    for shard in ring["shards"]:
        then = [f"{shard['partitions_next']:,}"] if resizing else []
        counted = f"{shard['partitions']:,}"
        table.add_row(shard["slot"], shard["address"], counted, f"{shard['share']:.1%}", *then, _reachable(shard))
    return table


def _reachable(shard: Mapping[str, Any]) -> str:
    by = shard["unreachable_by"]
    return f"not for {', '.join(by)}" if by else "yes"


def spare_lines(ring: Document) -> Iterator[str]:
    """Yield a line for each spare, or one that says that there is none."""
    if not ring["spares"]:
        yield "No spares: a shard that dies is not replaced."
    for spare in ring["spares"]:
        yield f"Spare {spare['address']}{'' if spare['answers'] else ' (does not answer)'}"


def _members(ring: Document) -> Table:
    table = Table(title=f"{len(ring['members'])} members use the ring", title_justify="left")
    for title in ("member", "role", "state", "prepared", "switched", "unreachable"):
        table.add_column(title)
    for member in ring["members"]:
        table.add_row(
            member["id"],
            member["role"],
            member["state"],
            str(member["prepared_epoch"] or "-"),
            str(member["switched_epoch"]),
            ", ".join(member["unreachable"]) or "-",
        )
    return table


def history_table(actions: list[Document], title: str) -> Table:
    """Return the actions, oldest first."""
    table = Table(title=title, title_justify="left")
    table.add_column("when", no_wrap=True)
    table.add_column("ring", justify="right")
    table.add_column("action", no_wrap=True)
    table.add_column("by")
    table.add_column("reason", overflow="fold")
    for action in actions:
        when = datetime.fromtimestamp(action["at_ms"] / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        table.add_row(when, str(action["epoch"]), action["action"], action["actor"], action["reason"])
    return table


def plan_view(plan: Document) -> Group:
    """Return the partitions of each slot before and after, and the moves."""
    table = Table(title=f"Ring {plan['epoch']} would have {len(plan['nodes'])} shards", title_justify="left")
    table.add_column("slot", no_wrap=True)
    table.add_column("address", overflow="fold")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    table.add_column("share", justify="right")
    before, after = plan["before"], plan["after"]
    total = sum(after.values())
    for slot in [*before, *(slot for slot in after if slot not in before)]:
        share = f"{after.get(slot, 0) / total:.1%}"
        address = plan["nodes"].get(slot, "(removed)")
        table.add_row(slot, address, f"{before.get(slot, 0):,}", f"{after.get(slot, 0):,}", share)
    moves = Table(title=moved_line(plan), title_justify="left")
    for title in ("from", "to"):
        moves.add_column(title)
    moves.add_column("partitions", justify="right")
    for move in plan["moves"]:
        moves.add_row(move["source"], move["target"], f"{move['partitions']:,}")
    return Group(table, moves) if plan["moves"] else Group(table)


def moved_line(document: Document) -> str:
    """Return how much a plan or a resize moves."""
    return f"{document['moved_partitions']:,} partitions move ({document['moved_share']:.1%} of all channels)"


_PHASES: Mapping[str, str] = {
    "preparing": "prepared (subscribed at old and new shards)",
    "switching": "switched (publishing to the new shards)",
    "settling": "switched; the old subscriptions end in a moment",
}


def progress_line(resize: Document) -> str:
    """Return how far a running resize is, and who is missing."""
    missing = f"; missing: {', '.join(resize['missing'])}" if resize["missing"] else ""
    return f"Ring {resize['epoch']}: {resize['done']} of {resize['total']} members {_PHASES[resize['phase']]}{missing}"
