"""Take a gateway out of service without hurting its clients.

::

    SERVING ──mark──► MARKED ──start──► NOTICE ──notice over──► SENDING_AWAY ──all gone, or the deadline──► DRAINED
       ▲                │                 │
       └────cancel──────┴─────────────────┘

From the mark on, discovery says ``draining``, ``/readyz`` fails and upgrades are refused with 503. With the first
client sent away the port closes, and there is no way back. Several gateways that are drained together are all marked
first, so that no client of one is sent to another.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from nearby.close_codes import CloseCode
from nearby.errors import StoreUnavailable
from nearby.messages import Reconnect
from nearby.ports import Clock
from ws_gateway.connection import Connection
from ws_gateway.drain_plan import CLOSING_S, Act, Orders, Schedule, Step, schedule, steps
from ws_gateway.gateway import Gateway

log = logging.getLogger(__name__)

ANNOUNCE_TIMEOUT_S = 5.0
LINGER_S = 2.0
"""How long a drained gateway waits for whoever watches it to look once more."""
CLOSE_REASON = "restarting"


class State(enum.Enum):
    """Where a drain is; the values are those of the admin API."""

    SERVING = "serving"
    MARKED = "marked"
    NOTICE = "notice"
    SENDING_AWAY = "sending_away"
    DRAINED = "drained"


class Status(msgspec.Struct, frozen=True):
    """What is told about a drain. ``None`` stands for what is not known yet; instants are Unix milliseconds.

    ``total`` clients were there when the first was sent away, ``told`` of them to reconnect; ``gone`` have left
    and ``left`` are still connected. ``rate_per_s`` is what the deadline made of the rate asked for.
    """

    gateway_id: str
    state: str
    left: int
    actor: str | None = None
    reason: str | None = None
    started_at_ms: int | None = None
    rate_per_s: float | None = None
    deadline_s: float | None = None
    total: int | None = None
    told: int | None = None
    gone: int | None = None
    eta_s: float | None = None


class Drain:
    """The drain of one gateway; :meth:`run` must be running. ``over`` is set when the process may exit.

    ``stop_listening`` closes the public port. ``clock`` gives Unix milliseconds, for :meth:`status` alone.
    """

    def __init__(
        self, gateway: Gateway, stop_listening: Callable[[], None], clock: Clock, rng: random.Random | None = None
    ) -> None:
        self.state = State.SERVING
        self.over = asyncio.Event()
        self._gateway = gateway
        self._stop_listening = stop_listening
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._now_s = asyncio.get_running_loop().time
        self._announce: Callable[[], Awaitable[None]] | None = None
        self._turn = asyncio.Lock()
        self._started = asyncio.Event()
        self._cancelled = asyncio.Event()
        self._orders: Orders | None = None
        self._started_at_ms: int | None = None
        self._started_s = 0.0
        self._schedule: Schedule | None = None
        self._began_s = 0.0
        self._told_count = 0
        self._watched = False
        self._end_seen = asyncio.Event()

    def announce_by(self, announce: Callable[[], Awaitable[None]]) -> None:
        """Take what writes the state of this gateway to discovery, and returns once it is written."""
        self._announce = announce

    # -------------------------------------------------------------------------------------- operators

    async def mark(self, orders: Orders) -> bool:
        """Let no new client come here, and return once discovery says so. False: it had been marked before.

        Raises:
            StoreUnavailable: discovery does not take it; the gateway goes on serving.
        """
        async with self._turn:
            if self.state is not State.SERVING:
                return False
            self._gateway.draining = True
            try:
                await self._write_state()
            except BaseException:
                self._gateway.draining = False
                raise
            self._mark(orders)
            return True

    async def start(self, orders: Orders) -> bool:
        """Begin to drain, marking first where that has not been done. False: a drain was running and goes on unchanged.

        Raises:
            StoreUnavailable: discovery does not take the mark; the gateway goes on serving.
        """
        await self.mark(orders)
        return self._start(orders)

    async def start_regardless(self, orders: Orders) -> None:
        """Begin to drain even if discovery cannot be told: the process has to end."""
        try:
            await self.start(orders)
        except StoreUnavailable as error:
            log.warning("draining unannounced: %s", error)
            self._gateway.draining = True
            self._mark(orders)
            self._start(orders)

    async def cancel(self) -> bool:
        """Serve again. False: clients have been sent away already, and it is too late."""
        async with self._turn:
            if self.state in (State.SENDING_AWAY, State.DRAINED):
                return False
            if self.state is State.SERVING:
                return True
            self.state = State.SERVING
            self._orders, self._started_at_ms = None, None
            self._started.clear()
            self._cancelled.set()
            self._gateway.draining = False
            with suppress(StoreUnavailable):  # what announces the load every few seconds tries again
                await self._write_state()
            return True

    def end_now(self) -> None:
        """Close every client at once and be done, without waiting for their answers."""
        self._close_all()
        self.over.set()

    def status(self) -> Status:
        """Return what there is to tell. Whoever asks is taken for a watcher who wants to see the end."""
        self._watched = True
        if self.state is State.DRAINED:
            self._end_seen.set()
        left, orders, plan = len(self._gateway.connections), self._orders, self._schedule
        gateway_id = self._gateway.settings.gateway_id
        if orders is None:
            return Status(gateway_id, self.state.value, left)
        return Status(
            gateway_id,
            self.state.value,
            left,
            orders.actor,
            orders.reason,
            self._started_at_ms,
            plan.rate_per_s if plan and plan.rate_per_s else orders.rate_per_s,
            orders.deadline_s,
            plan.count if plan else None,
            self._told_count if plan else None,
            plan.count - left if plan else None,
            self._eta_s(left, plan),
        )

    def _eta_s(self, left: int, plan: Schedule | None) -> float | None:
        if plan is None:
            return None
        return round(plan.eta_s(self._now_s() - self._began_s), 1) if left else 0.0

    def _mark(self, orders: Orders) -> None:
        self.state, self._orders = State.MARKED, orders

    def _start(self, orders: Orders) -> bool:
        if self.state is not State.MARKED:
            return False
        self.state, self._orders = State.NOTICE, orders
        self._started_at_ms, self._started_s = self._clock(), self._now_s()
        self._cancelled.clear()
        self._started.set()
        return True

    async def _write_state(self) -> None:
        if self._announce is None:
            raise StoreUnavailable("discovery", "this gateway is not announced yet")
        try:
            async with asyncio.timeout(ANNOUNCE_TIMEOUT_S):
                await self._announce()
        except TimeoutError as error:
            raise StoreUnavailable("discovery", f"took nothing for {ANNOUNCE_TIMEOUT_S:g} s") from error

    # --------------------------------------------------------------------------------------- the drain

    async def run(self) -> None:
        """Wait for a start and carry the drain out, to the end."""
        while self.state is not State.SENDING_AWAY:
            await self._started.wait()
            await self._give_notice()
        self._stop_listening()
        await self._send_away()
        self.state = State.DRAINED
        log.info("drained")
        if self._watched:
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await self._end_seen.wait()
        self.over.set()

    async def _give_notice(self) -> None:
        """Wait until load balancers and the API send nobody here, or the drain is cancelled."""
        while self.state is State.NOTICE:
            assert self._orders is not None
            ends_s = self._started_s + self._orders.notice_within_deadline_s()
            if self._now_s() >= ends_s or not self._gateway.connections:
                self.state = State.SENDING_AWAY
                return
            with suppress(TimeoutError):
                async with asyncio.timeout_at(ends_s):
                    await self._cancelled.wait()

    async def _send_away(self) -> None:
        assert self._orders is not None
        clients = list(self._gateway.connections)
        self._rng.shuffle(clients)
        self._began_s = self._now_s()
        deadline_s = self._started_s + self._orders.deadline_s
        plan = self._schedule = schedule(len(clients), self._orders, deadline_s - self._began_s)
        log.info("sending %d clients away in %.1f s", plan.count, plan.spread_s)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline_s - CLOSING_S), asyncio.TaskGroup() as tasks:
                following = tasks.create_task(self._follow(steps(plan, self._rng), clients), name="drain steps")
                await self._gateway.emptied.wait()
                following.cancel()
        self._close_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                await self._gateway.emptied.wait()

    async def _follow(self, ordered: list[Step], clients: list[Connection]) -> None:
        for step in ordered:
            await asyncio.sleep(max(0.0, self._began_s + step.at_s - self._now_s()))
            match step.act:
                case Act.TELL:
                    self._tell(clients[step.index])
                case Act.CLOSE:
                    self._gateway.fail(clients[step.index], CloseCode.SERVICE_RESTART, CLOSE_REASON)

    def _tell(self, client: Connection) -> None:
        if not client.is_open():
            return
        assert self._schedule is not None
        after_ms = round(self._rng.uniform(0, self._schedule.after_s) * 1000)
        client.send_frame(client.codec.encode(Reconnect(after_ms, "drain")))
        self._told_count += 1

    def _close_all(self) -> None:
        for client in list(self._gateway.connections):
            self._gateway.fail(client, CloseCode.SERVICE_RESTART, CLOSE_REASON)
