"""Drain several gateways together: mark all of them, then start all of them, then watch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cli.drain.progress import Progress
from cli.gateways.admin_port import AdminPort, AdminUnreachable, DrainStatus
from cli.gateways.find import Gateways, GatewaysNotFound
from nearby.errors import NearbyError

T = TypeVar("T")

POLL_S = 0.5
PATIENCE_S = 5.0
"""How long a gateway that is being watched may not answer before it counts as gone."""

Chosen = Mapping[str, AdminPort]
"""Gateways by name."""


class NotDrained(NearbyError):
    """A gateway went away, or back into service, before it was drained."""


@dataclass(frozen=True, slots=True)
class Request:
    """How to drain. ``rate_per_s`` of ``None`` is the gateways' own setting."""

    deadline_s: float
    rate_per_s: float | None
    reason: str


async def choose(ports: Sequence[AdminPort], names: Sequence[str], gateways: Gateways) -> Chosen:
    """Return the gateways called ``names``, all of them if there are none; one that does not answer is not known.

    Raises:
        GatewaysNotFound: no gateway has one of the names.
        AdminRefused: the token is wrong.
        AdminUnreachable: one of them does not answer.
    """
    known = {name: port for port in ports if (name := gateways.ids.get(port.url)) is not None}
    if not known:
        told = await _all([port.drain_status() for port in ports])
        known = {status.gateway_id: port for status, port in zip(told, ports, strict=True)}
    for name in names:
        if name not in known:
            raise GatewaysNotFound(f"there is no gateway {name}; there are: {', '.join(sorted(known)) or 'none'}")
    return {name: known[name] for name in (names or sorted(known))}


async def begin(chosen: Chosen, request: Request) -> list[DrainStatus]:
    """Mark every gateway, and when discovery names none of them any more, start all the drains.

    If one cannot be marked, the marks of the others are taken back and no client is sent away.

    Raises:
        AdminRefused: a gateway does not do it.
        AdminUnreachable: a gateway does not answer.
    """
    marked: list[AdminPort] = []

    async def mark(port: AdminPort) -> None:
        is_news, _ = await _order(port, "mark", request)
        if is_news:
            marked.append(port)

    try:
        await _all([mark(port) for port in chosen.values()])
    except NearbyError:
        await asyncio.gather(*(port.cancel_drain() for port in marked), return_exceptions=True)
        raise
    started = await _all([_order(port, "start", request) for port in chosen.values()])
    return [status for _, status in started]


async def cancel(chosen: Chosen) -> list[DrainStatus]:
    """Let every gateway serve again.

    Raises:
        AdminRefused: one has sent clients away already.
        AdminUnreachable: one does not answer.
    """
    return await _all([port.cancel_drain() for port in chosen.values()])


async def statuses(chosen: Chosen) -> list[DrainStatus]:
    """Return what every gateway is doing.

    Raises:
        AdminRefused: the token is wrong.
        AdminUnreachable: one does not answer.
    """
    return await _all([port.drain_status() for port in chosen.values()])


async def watch(chosen: Chosen, progress: Progress) -> list[DrainStatus]:
    """Show how it goes until every gateway is drained; return their last words.

    Raises:
        NotDrained: one went away before, or serves again.
    """
    async with asyncio.TaskGroup() as tasks:
        watches = [tasks.create_task(_watch(name, port, progress)) for name, port in chosen.items()]
    return [task.result() for task in watches]


async def _watch(name: str, port: AdminPort, progress: Progress) -> DrainStatus:
    clock = asyncio.get_running_loop().time
    answered_s = clock()
    while True:
        try:
            status = await port.drain_status()
        except AdminUnreachable as error:
            if clock() - answered_s > PATIENCE_S:
                raise NotDrained(f"{name} went away before it was drained") from error
        else:
            answered_s = clock()
            progress.show(name, status)
            if status.state == "drained":
                return status
            if status.state == "serving":
                raise NotDrained(f"{name} serves again: somebody cancelled its drain")
        await asyncio.sleep(POLL_S)


async def _order(port: AdminPort, phase: str, request: Request) -> tuple[bool, DrainStatus]:
    return await port.drain(phase, deadline_s=request.deadline_s, rate_per_s=request.rate_per_s, reason=request.reason)


async def _all(calls: Sequence[Awaitable[T]]) -> list[T]:
    """Wait for every call to end; return what they returned, or raise the first error there was."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    values: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        values.append(result)
    return values
