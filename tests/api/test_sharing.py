from __future__ import annotations

import asyncio

import pytest

from api.pauses import INTERVAL_S, end_due_pauses
from nearby.changes import SharingChanged
from pubsub_router.router import Router
from tests.api.stack import Ear, Json, Stack, assert_problem
from tests.support.eventually import eventually

DEFAULTS: Json = {"default_precision": "exact", "windows": [], "time_zone": "UTC"}
ON: Json = {"state": "on", "until_ms": None, **DEFAULTS}


async def test_a_new_user_shares(stack: Stack) -> None:
    assert (await stack.get("/v1/me/sharing", await stack.user("ann"))).json() == ON


async def test_pausing_and_resuming(stack: Stack) -> None:
    ann = await stack.user("ann")
    paused: Json = {"state": "paused", "until_ms": None, **DEFAULTS}
    answer = await stack.put("/v1/me/sharing", ann, {"state": "paused"})
    assert (answer.status_code, answer.json()) == (200, paused)
    assert (await stack.get("/v1/me/sharing", ann)).json() == paused
    assert (await stack.put("/v1/me/sharing", ann, {"state": "on"})).json() == ON
    assert (await stack.get("/v1/me/sharing", ann)).json() == ON
    assert await stack.feed() == [SharingChanged(1, ann.user_id, False), SharingChanged(2, ann.user_id, True)]


async def test_a_pause_ends_by_itself(stack: Stack) -> None:
    ann = await stack.user("ann")
    asked: Json = {"state": "paused", "until_ms": stack.clock() + 60_000}
    paused = asked | DEFAULTS
    assert (await stack.put("/v1/me/sharing", ann, asked)).json() == paused
    stack.clock.advance(59.999)
    assert (await stack.get("/v1/me/sharing", ann)).json() == paused
    stack.clock.advance(0.001)
    assert (await stack.get("/v1/me/sharing", ann)).json() == ON


async def test_the_end_of_a_pause_is_announced_to_the_friends(stack: Stack, router: Router, ear: Ear) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await stack.put("/v1/me/sharing", ann, {"state": "paused", "until_ms": stack.clock() + 60_000})
    await ear.listen(router, [ann, bob])
    resumed = SharingChanged(3, ann.user_id, True)
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        stack.clock.advance(30)
        if len(naps) == 4:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(end_due_pauses(stack.services.graph, stack.services.announcer, nap))
        await eventually(lambda: ear.heard == [(ann.user_id, resumed), (bob.user_id, resumed)] and len(naps) == 4)
        task.cancel()
    assert naps == [INTERVAL_S] * 4
    assert (await stack.feed())[2:] == [resumed]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"state": "off"},
        {"state": "on", "until_ms": 1_900_000_000_000},
        {"state": "paused", "until_ms": 1},
        {"state": "paused", "until_ms": "1900000000000"},
        {"state": "paused", "until_ms": 1.9e12},
        {"state": "paused", "until_ms": True},
        {"state": "paused", "until_ms": 2**53},
        {"state": "paused", "friend": "bob"},
    ],
    ids=str,
)
async def test_a_wrong_switch_is_refused_and_changes_nothing(stack: Stack, body: Json) -> None:
    ann = await stack.user("ann")
    assert_problem(await stack.put("/v1/me/sharing", ann, body), 422, "invalid_request")
    assert (await stack.get("/v1/me/sharing", ann)).json() == ON
