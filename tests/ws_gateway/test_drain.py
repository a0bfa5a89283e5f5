"""When clients are sent away, and the states of a drain."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearby.errors import StoreUnavailable
from nearby.settings import GatewaySettings, load
from tests.support.eventually import eventually
from ws_gateway.drain import Drain, State
from ws_gateway.drain_plan import CLOSING_S, Act, Orders, schedule, steps
from ws_gateway.gateway import Gateway

ENVIRON = {
    "NEARBY_DISCOVERY": "file:///nowhere",
    "NEARBY_CACHE_URL": "redis://127.0.0.1:1",
    "NEARBY_HISTORY_STREAM_URL": "redis://127.0.0.1:1",
    "NEARBY_GATEWAY_ID": "gw-1",
    "NEARBY_API_INTERNAL_URL": "http://127.0.0.1:1",
    "NEARBY_TOKEN_KEYS": "k=" + "A" * 43 + "=",
    "NEARBY_SERVICE_TOKEN": "s" * 16,
    "NEARBY_ADMIN_TOKEN": "a" * 16,
}


def orders(rate_per_s: float = 300, deadline_s: float = 120, grace_s: float = 10, notice_s: float = 5) -> Orders:
    return Orders(rate_per_s, deadline_s, grace_s, notice_s, actor="ann", reason="kernel")


# ------------------------------------------------------------------------------------------- schedule


def test_clients_are_told_at_the_rate_that_was_asked_for() -> None:
    plan = schedule(3_000, orders(), left_s=115)
    assert (plan.spread_s, plan.after_s, plan.grace_s) == (10, 1, 10)
    told = [step.at_s for step in steps(plan, random.Random(1)) if step.act is Act.TELL]
    per_second = Counter(int(at_s) for at_s in told)
    assert set(per_second) == set(range(10))
    assert all(299 <= count <= 301 for count in per_second.values())


def test_the_gaps_between_clients_are_random() -> None:
    told = [step.at_s for step in steps(schedule(300, orders(), 115), random.Random(1)) if step.act is Act.TELL]
    gaps = {round(late - early, 6) for early, late in pairwise(told)}
    assert len(gaps) > 250


def test_a_client_is_closed_no_sooner_than_its_pause_and_the_grace_after_it_was_told() -> None:
    plan = schedule(100, orders(), 115)
    at_s = {(step.act, step.index): step.at_s for step in steps(plan, random.Random(1))}
    for index in range(100):
        assert at_s[Act.CLOSE, index] - at_s[Act.TELL, index] == pytest.approx(plan.after_s + 10)


def test_a_deadline_too_short_raises_the_rate_and_shortens_the_grace() -> None:
    plan = schedule(3_000, orders(rate_per_s=10), left_s=31)
    assert plan.grace_s == 10
    assert plan.rate_per_s > 100


def test_without_any_time_left_all_are_told_and_closed_at_once() -> None:
    plan = schedule(100, orders(), left_s=0)
    assert {step.at_s for step in steps(plan, random.Random(1))} == {0}
    assert plan.rate_per_s == 0


def test_nobody_there_is_nothing_to_do() -> None:
    assert steps(schedule(0, orders(), 115), random.Random(1)) == []


@given(
    count=st.integers(0, 500),
    rate_per_s=st.floats(0.1, 10_000),
    grace_s=st.floats(0, 100),
    left_s=st.floats(-10, 1_000),
)
def test_every_client_is_told_before_it_is_closed_and_all_is_over_by_the_deadline(
    count: int, rate_per_s: float, grace_s: float, left_s: float
) -> None:
    plan = schedule(count, orders(rate_per_s, 1_000, grace_s), left_s)
    ordered = steps(plan, random.Random(1))
    assert [step.at_s for step in ordered] == sorted(step.at_s for step in ordered)
    told: set[int] = set()
    for step in ordered:
        if step.act is Act.TELL:
            told.add(step.index)
        assert step.index in told
    assert told == set(range(count))
    assert all(step.at_s <= max(0, left_s - CLOSING_S) + 1e-6 for step in ordered)


def test_the_notice_takes_at_most_a_quarter_of_the_deadline() -> None:
    assert orders(deadline_s=120, notice_s=5).notice_within_deadline_s() == 5
    assert orders(deadline_s=2, notice_s=5).notice_within_deadline_s() == 0.5


# --------------------------------------------------------------------------------------------- states


class Stage:
    """A drain of a gateway that nobody is connected to, and what it wrote to discovery."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.gateway = Gateway(load(GatewaySettings, ENVIRON), lambda: 1_000, tasks)
        self.port_closed = False
        self.announced: list[bool] = []
        self.discovery_answers = True
        self.drain = Drain(self.gateway, self.close_port, lambda: 1_000, random.Random(1))
        self.drain.announce_by(self.announce)

    def close_port(self) -> None:
        self.port_closed = True

    async def announce(self) -> None:
        if not self.discovery_answers:
            raise StoreUnavailable("discovery", "away")
        self.announced.append(self.gateway.draining)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    async with asyncio.TaskGroup() as tasks:
        present = Stage(tasks)
        running = tasks.create_task(present.drain.run())
        yield present
        running.cancel()


async def test_a_mark_is_in_discovery_when_it_returns_and_sends_nobody_away() -> None:
    async with stage() as present:
        assert await present.drain.mark(orders())
        assert present.announced == [True]
        assert present.gateway.not_ready() == "draining"
        assert present.drain.state is State.MARKED
        assert not present.port_closed


async def test_a_second_mark_and_a_second_start_change_nothing() -> None:
    async with stage() as present:
        assert await present.drain.mark(orders())
        assert not await present.drain.mark(orders(rate_per_s=1))
        assert await present.drain.start(orders(rate_per_s=7))
        assert not await present.drain.start(orders(rate_per_s=1))
        assert present.drain.status().rate_per_s == 7
        assert present.announced == [True]


async def test_an_empty_gateway_is_drained_at_once() -> None:
    async with stage() as present:
        await present.drain.start(orders(notice_s=60))
        await eventually(present.drain.over.is_set, within_s=1)
        assert present.port_closed
        status = present.drain.status()
        assert (status.state, status.total, status.gone, status.left) == ("drained", 0, 0, 0)


async def test_a_mark_is_taken_back_by_a_cancel() -> None:
    async with stage() as present:
        await present.drain.mark(orders())
        assert await present.drain.cancel()
        assert present.announced == [True, False]
        assert present.gateway.not_ready() is None
        assert present.drain.status().actor is None
        assert await present.drain.cancel(), "there is nothing to cancel, which is as wanted"


async def test_what_is_drained_cannot_be_cancelled() -> None:
    async with stage() as present:
        await present.drain.start(orders())
        await eventually(present.drain.over.is_set)
        assert not await present.drain.cancel()
        assert present.gateway.not_ready() == "draining"


async def test_a_gateway_that_cannot_tell_discovery_goes_on_serving() -> None:
    async with stage() as present:
        present.discovery_answers = False
        with pytest.raises(StoreUnavailable):
            await present.drain.start(orders())
        assert present.gateway.not_ready() is None
        assert present.drain.state is State.SERVING


async def test_a_signal_drains_even_if_discovery_is_away() -> None:
    async with stage() as present:
        present.discovery_answers = False
        await present.drain.start_regardless(orders())
        await eventually(present.drain.over.is_set)
        assert present.gateway.not_ready() == "draining"


async def test_a_watcher_sees_the_end_before_the_process_is_over() -> None:
    async with stage() as present:
        present.drain.status()
        await present.drain.start(orders())
        await eventually(lambda: present.drain.state is State.DRAINED)
        assert not present.drain.over.is_set()
        assert present.drain.status().state == "drained"
        await eventually(present.drain.over.is_set, within_s=1)
