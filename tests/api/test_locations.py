"""Reporting over REST: as over a socket, without one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from api.reports import Reports
from location_history.consumer import RedisHistoryConsumer, open_consumer
from location_history.stream import open_stream
from nearby.channels import approximate_channel, location_channel
from nearby.fixes import MAX_AGE_MS, MAX_AHEAD_MS
from nearby.geo import cell_centre
from nearby.ports import RingState
from nearby.record import unpack
from pubsub_router.router import Router
from tests.api.stack import Json, Stack, User, assert_problem
from tests.conftest import ValkeyServers
from tests.social_graph.clock import NOW_MS
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

HOME: Json = {"lat": 41.88, "lon": -87.63, "accuracy_m": 8.0}


@pytest.fixture
async def consumer(valkey: ValkeyServer) -> AsyncIterator[RedisHistoryConsumer]:
    async with open_consumer(valkey.url, "one") as opened:
        yield opened


async def report(stack: Stack, user: User, **fields: object) -> Json:
    answer = await stack.post("/v1/locations", user, {"location": {**HOME, **fields}})
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def appended(consumer: RedisHistoryConsumer, count: int) -> list[tuple[int, bool, int | None]]:
    """The next ``count`` points of the stream: when, whether flagged, how long to keep."""
    found: list[tuple[int, bool, int | None]] = []

    async def enough() -> bool:
        found.extend(
            (entry.point.location.recorded_at_ms, entry.point.flagged, entry.point.retention_s)
            for entry in await consumer.read(100)
        )
        return len(found) >= count

    await eventually(enough)
    return found


async def test_a_location_is_live_and_in_the_history(stack: Stack, consumer: RedisHistoryConsumer) -> None:
    ann = await stack.user("ann")
    assert await report(stack, ann, recorded_at_ms=NOW_MS - 5) == {"recorded_at_ms": NOW_MS - 5, "live": True}
    [cached] = await stack.services.cache.read_many([ann.user_id])
    assert cached is not None
    assert (cached.record.lat_deg, cached.record.recorded_at_ms) == (41.88, NOW_MS - 5)
    assert await appended(consumer, 1) == [(NOW_MS - 5, False, None)]


class Heard:
    """What a gateway of friends would hear."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def on_message(self, channel: bytes, payload: bytes) -> None:
        self.payloads.append(payload)

    def on_burst_end(self) -> None:
        pass

    def on_gap(self, channels: Sequence[bytes]) -> None:
        pass


async def test_a_location_is_published_to_friends_while_sharing(stack: Stack, ring: RingState) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    heard = Heard()
    async with Router(heard, member="gateway-test", probe_interval_s=5) as router:
        await router.apply(ring)
        channel = location_channel(ann.user_id)
        router.subscribe([channel])
        await router.confirmed([channel])
        await report(stack, ann)
        await eventually(lambda: len(heard.payloads) == 1)
        await stack.put("/v1/me/sharing", ann, {"state": "paused"})
        stack.clock.advance(30)
        await report(stack, ann, lat=41.881)
        await stack.put("/v1/me/sharing", ann, {"state": "on"})
        stack.clock.advance(30)
        await report(stack, ann, lat=41.882)
        await eventually(lambda: len(heard.payloads) == 2)
    assert [unpack(payload).lat_deg for payload in heard.payloads] == [41.88, 41.882]


async def test_S13_a_location_is_published_as_exactly_as_friends_may_see_it(stack: Stack, ring: RingState) -> None:
    ann, bob, cat = await stack.users("ann", "bob", "cat")
    await stack.befriend(ann, bob)
    await stack.befriend(ann, cat)
    await stack.put(f"/v1/friends/{bob.user_id}/sharing", ann, {"precision": "approximate"})
    await stack.put(f"/v1/friends/{cat.user_id}/sharing", ann, {"precision": "off"})
    heard = Heard()
    async with Router(heard, member="gateway-test", probe_interval_s=5) as router:
        await router.apply(ring)
        channels = [location_channel(ann.user_id), approximate_channel(ann.user_id)]
        router.subscribe(channels)
        await router.confirmed(channels)
        for lat, seconds in ((41.88, 1), (41.8801, 60), (41.95, 60), (41.9501, 60)):
            await report(stack, ann, lat=lat)
            stack.clock.advance(seconds)
        await stack.put(f"/v1/friends/{cat.user_id}/sharing", ann, {"precision": "exact"})
        await report(stack, ann, lat=41.88)
        await eventually(lambda: len(heard.payloads) == 5)
    cells = [cell_centre(lat, -87.63)[0] for lat in (41.88, 41.95, 41.95)]
    found = [unpack(payload).lat_deg for payload in heard.payloads]
    assert found[:3] == pytest.approx(cells, abs=1e-6), "within a cell the heartbeat alone"
    assert sorted(found[3:]) == pytest.approx(sorted([cells[0], 41.88]), abs=1e-6)


async def test_what_was_not_shared_is_flagged(stack: Stack, consumer: RedisHistoryConsumer) -> None:
    ann = await stack.user("ann")
    await stack.put("/v1/me/sharing", ann, {"state": "paused"})
    assert (await report(stack, ann))["live"] is True
    assert await appended(consumer, 1) == [(NOW_MS, True, None)]


async def test_an_older_location_goes_to_the_history_alone(stack: Stack, consumer: RedisHistoryConsumer) -> None:
    ann = await stack.user("ann")
    await report(stack, ann)
    assert await report(stack, ann, recorded_at_ms=NOW_MS - 60_000) == {
        "recorded_at_ms": NOW_MS - 60_000,
        "live": False,
    }
    assert len(await appended(consumer, 2)) == 2


@pytest.mark.parametrize("fields", [{"accuracy_m": 6_000.0}, {"lat": 51.0}])
async def test_what_is_not_plausible_is_flagged_and_not_shown(
    stack: Stack, consumer: RedisHistoryConsumer, fields: Json
) -> None:
    ann = await stack.user("ann")
    await report(stack, ann)
    stack.clock.advance(30)
    assert (await report(stack, ann, **fields))["live"] is False
    assert [flagged for _, flagged, _ in await appended(consumer, 2)] == [False, True]
    [cached] = await stack.services.cache.read_many([ann.user_id])
    assert cached is not None
    assert cached.record.lat_deg == 41.88


async def test_points_go_to_the_history_and_bad_ones_are_named(stack: Stack, consumer: RedisHistoryConsumer) -> None:
    ann = await stack.user("ann")
    points = [
        {"lat": 1, "lon": 2, "recorded_at_ms": NOW_MS - 1_000},
        {"lat": 91, "lon": 2},
        {"lat": 1, "lon": 2, "recorded_at_ms": NOW_MS - MAX_AGE_MS - 1},
        {"lat": 1, "lon": 2, "recorded_at_ms": NOW_MS + MAX_AHEAD_MS + 1},
    ]
    answer = await stack.post("/v1/locations", ann, {"points": points})
    assert answer.json() == {
        "stored": 2,
        "rejected": [{"index": 1, "code": "invalid_location"}, {"index": 2, "code": "too_old"}],
    }
    assert await appended(consumer, 2) == [(NOW_MS - 1_000, False, None), (NOW_MS, False, None)]
    assert await stack.services.cache.read_many([ann.user_id]) == [None]


async def test_the_retention_goes_with_each_point(stack: Stack, consumer: RedisHistoryConsumer) -> None:
    ann = await stack.user("ann")
    await stack.put("/v1/me/history-settings", ann, {"retention": "1_day"})
    await report(stack, ann)
    assert await appended(consumer, 1) == [(NOW_MS, False, 86_400)]
    await stack.put("/v1/me/history-settings", ann, {"retention": "live_only"})
    stack.clock.advance(30)
    assert (await report(stack, ann))["live"] is True
    answer = await stack.post("/v1/locations", ann, {"points": [HOME]})
    assert answer.json() == {"stored": 0, "rejected": []}
    assert (await consumer.backlog()).entries_count == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"location": {"lat": 91, "lon": 0}}, "invalid_location"),
        ({"location": {"lat": True, "lon": 0}}, "invalid_location"),
        ({"location": {"lat": 0, "lon": 0, "user_id": "x"}}, "invalid_location"),
        ({"location": {"lat": 0, "lon": 0, "recorded_at_ms": 1}}, "too_old"),
        ({"points": [HOME] * 101}, "too_many_points"),
        ({"points": []}, "too_many_points"),
        ({"points": {}}, "invalid_request"),
        ({}, "invalid_request"),
        ([], "invalid_request"),
        ({"location": HOME, "points": [HOME]}, "invalid_request"),
        ({"location": HOME, "user_id": "x"}, "invalid_request"),
    ],
    ids=str,
)
async def test_what_the_protocol_refuses_is_refused(stack: Stack, body: object, code: str) -> None:
    ann = await stack.user("ann")
    answer = await stack.public.post("/v1/locations", headers=ann.headers, content=json.dumps(body))
    assert_problem(answer, 422, code)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 9_999, b'{"location":'])
async def test_what_is_no_json_is_refused(stack: Stack, data: bytes) -> None:
    ann = await stack.user("ann")
    answer = await stack.public.post("/v1/locations", headers=ann.headers, content=data)
    assert_problem(answer, 422, "invalid_request")


async def test_nobody_reports_for_others_or_without_an_account(stack: Stack) -> None:
    assert_problem(await stack.public.post("/v1/locations", json={"location": HOME}), 401, "not_authenticated")
    ann = await stack.user("ann")
    await stack.delete("/v1/me", ann)
    assert_problem(await stack.post("/v1/locations", ann, {"location": HOME}), 401, "not_authenticated")


async def test_nothing_is_acknowledged_that_is_not_stored(stack: Stack, valkey_servers: ValkeyServers) -> None:
    away = valkey_servers()
    away.kill()
    ann = await stack.user("ann")
    async with open_stream(away.url, 1_000) as stream:
        reports = Reports(stack.services.cache, stream, stack.services.announcer._pubsub, stack.clock, 0, 0)
        stack.use(replace(stack.services, reports=reports))
        for body in ({"location": HOME}, {"points": [HOME]}):
            assert_problem(await stack.post("/v1/locations", ann, dict(body)), 503, "unavailable")
