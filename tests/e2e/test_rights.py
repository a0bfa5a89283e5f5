"""People's rights over their data, on the whole stack (S14, S15): walk, export, compare, delete, look everywhere."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import os
import re
import signal
import time
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from location_history.consumer import GROUP
from nearby.close_codes import CloseCode
from nearby_client import NearbyApi
from tests.support.device import Device, device_of
from tests.support.eventually import eventually
from tests.support.history_probes import CassandraProbe, HistoryProbe, SqliteProbe
from tests.support.people import PASSWORD, Person, befriend, sign_up
from tests.support.stack import Stack, running_stack
from tests.support.traces import erased, is_erased, nothing_is_left

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY_MS = 86_400_000
TRACKS = os.environ.get("NEARBY_TEST_TRACKS", "")
"""A CSV file of recorded tracks: ``walker,t_s,lat_deg,lon_deg``; the first walker's are walked then."""
POINTS = int(os.environ.get("NEARBY_TEST_WALK_POINTS", "1200"))
WITHIN_S = 30.0
SETTINGS = {"NEARBY_MESSAGE_RATE": "0", "NEARBY_MAX_SPEED_MPS": "0"}
Place = tuple[float, float]
PLACE: Place = (41.88, -87.63)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rights")


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("cassandra", marks=pytest.mark.xdist_group("cassandra"))]
)
def probe(request: pytest.FixtureRequest, directory: Path) -> HistoryProbe:
    """The history store of the stack."""
    if request.param == "sqlite":
        return SqliteProbe(directory / "sqlite" / "data")
    return CassandraProbe(request.getfixturevalue("shared_cassandra"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(probe: HistoryProbe, directory: Path) -> AsyncIterator[Stack]:
    own = directory / ("sqlite" if isinstance(probe, SqliteProbe) else "cassandra")
    own.mkdir()
    async with running_stack(own, {**SETTINGS, **probe.environ}) as running:
        yield running


def authorization(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.account.access_token}"}


@asynccontextmanager
async def rest(stack: Stack, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=stack.api_url, headers=authorization(person), trust_env=False, timeout=WITHIN_S
    ) as client:
        yield client


def walk() -> list[dict[str, float | int]]:
    """Three days up to now, so that the points lie on four dates at least; ``lat`` and ``lon`` as the wire has them."""
    first_ms = time.time_ns() // 1_000_000 - 3 * DAY_MS
    places = _recorded() if TRACKS else [_somewhere(step) for step in range(POINTS)]
    step_ms = 3 * DAY_MS // len(places)
    return [
        {"lat": lat, "lon": lon, "recorded_at_ms": first_ms + index * step_ms}
        for index, (lat, lon) in enumerate(places)
    ]


def _somewhere(step: int) -> Place:
    return round(41.88 + math.sin(step / 90) / 20, 7), round(-87.63 + math.cos(step / 70) / 20, 7)


def _recorded() -> list[Place]:
    with Path(TRACKS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    walker = rows[0]["walker"]
    return [(float(row["lat_deg"]), float(row["lon_deg"])) for row in rows if row["walker"] == walker][:POINTS]


async def send_all(phone: Device, points: Sequence[dict[str, float | int]]) -> None:
    for start in range(0, len(points), 100):
        batch = points[start : start + 100]
        assert (await phone.catch_up(batch))["stored"] == len(batch)


async def stored(probe: HistoryProbe, person: Person, count: int) -> None:
    """Wait until exactly ``count`` points of ``person`` are in the store."""

    async def check() -> bool:
        assert await asyncio.to_thread(probe.count, person.user_id) == count
        return True

    await eventually(check, WITHIN_S)


async def test_S14_three_days_are_exported_as_they_were_sent_and_deleted_everywhere(
    stack: Stack, api: NearbyApi, probe: HistoryProbe
) -> None:
    ann, ben = await sign_up(api), await sign_up(api)
    await befriend(ann, ben)
    points = walk()
    async with device_of(ann, stack.gateways[0]) as phone, rest(stack, ann) as me:
        await send_all(phone, points)
        live = {"lat": 41.9, "lon": -87.6, "recorded_at_ms": time.time_ns() // 1_000_000}
        assert (await phone.ask("ack", {"type": "location", **live}))["live"]
        points.append(live)
        await stored(probe, ann, len(points))
        assert await asyncio.to_thread(probe.mentions, ann.user_id) == ["history"]
        assert exported(await export(me)) == sorted(points, key=lambda point: point["recorded_at_ms"])

        # A day of it.
        noon_ms = int(points[0]["recorded_at_ms"]) + DAY_MS
        answer = await me.delete(f"/v1/me/history?from_ms={noon_ms}&to_ms={noon_ms + DAY_MS}")
        assert answer.status_code in (202, 204)
        rest_of_it = [point for point in points if not noon_ms <= point["recorded_at_ms"] < noon_ms + DAY_MS]
        assert 0 < len(rest_of_it) < len(points)
        await erased(stack, ann)
        await stored(probe, ann, len(rest_of_it))

        await export(me)
        answer = await me.delete("/v1/me")
        assert answer.status_code == 202
        assert await phone.close_code() == CloseCode.NOT_ALLOWED
        assert (await me.get("/v1/me")).status_code == 401
    await erased(stack, ann)
    await nothing_is_left(stack, probe, ann)
    async with device_of(ann, stack.gateways[1]) as phone:
        assert await phone.close_code() == CloseCode.NOT_ALLOWED


async def export(me: httpx.AsyncClient) -> zipfile.ZipFile:
    path = f"/v1/me/exports/{(await me.post('/v1/me/exports')).json()['export_id']}"

    async def ready() -> bool:
        return bool((await me.get(path)).json()["state"] == "ready")

    await eventually(ready, WITHIN_S)
    answer = await me.get(f"{path}/download")
    assert answer.status_code == 200
    return zipfile.ZipFile(io.BytesIO(answer.content))


def exported(archive: zipfile.ZipFile) -> list[dict[str, float | int]]:
    """The points of an archive, as they were sent."""
    points = json.loads(archive.read("history.json"))["points"]
    assert archive.read("history.gpx").count(b"<trkpt ") == len(points)
    assert len(json.loads(archive.read("history.geojson"))["features"]) == len(points)
    return [
        {"lat": round(point["lat"], 7), "lon": round(point["lon"], 7), "recorded_at_ms": point["recorded_at_ms"]}
        for point in points
    ]


@pytest.mark.parametrize("probe", ["sqlite"], indirect=True, scope="module")
async def test_S14_friends_and_every_gateway_learn_of_a_deletion(stack: Stack, api: NearbyApi) -> None:
    ann, ben = await sign_up(api), await sign_up(api)
    await befriend(ann, ben)
    one, other = stack.gateways
    async with ben.online(one.ws_url), device_of(ann, one) as phone, device_of(ann, other) as tablet:
        ben.client.report(41.88, -87.63)
        await phone.report(PLACE)
        await eventually(lambda: set(ben.map) == {ann.user_id}, WITHIN_S)
        await ann.account.delete(PASSWORD)
        assert [await phone.close_code(), await tablet.close_code()] == [CloseCode.NOT_ALLOWED] * 2
        await eventually(lambda: ben.map == {}, WITHIN_S)
        assert await ben.account.friends() == []


async def test_S14_what_a_frozen_gateway_writes_late_changes_nothing(
    stack: Stack, api: NearbyApi, probe: HistoryProbe
) -> None:
    ann, ben = await sign_up(api), await sign_up(api)
    await befriend(ann, ben)
    here, there = stack.gateways
    async with ben.online(there.ws_url), device_of(ann, here) as phone:
        ben.client.report(41.88, -87.63)
        await phone.report(PLACE)
        await eventually(lambda: set(ben.map) == {ann.user_id}, WITHIN_S)
        fenced_count = await fenced(stack)
        await eventually(lambda: is_drained(stack), WITHIN_S)
        # It is to read what was sent to it before it hears of the deletion: from nobody, for the while.
        with frozen(stack, *stack.shard_urls):
            with frozen(stack, here.id):
                await phone.send({"type": "location", "lat": 41.99, "lon": -87.63})
                await phone.send({"type": "batch", "points": walk()[:100]})
                async with rest(stack, ann) as me:
                    assert (await me.delete("/v1/me")).status_code == 202
                await erased(stack, ann)
                await eventually(lambda: ben.map == {}, WITHIN_S)
                stack.kill("api", signal.SIGSTOP)
            with frozen(stack, "api"):

                async def dropped() -> bool:
                    return await fenced(stack) == fenced_count + 101

                await eventually(dropped, WITHIN_S)
        assert await phone.close_code() == CloseCode.NOT_ALLOWED
        assert ann.user_id not in ben.map
    await nothing_is_left(stack, probe, ann)


async def test_S14_what_a_frozen_writer_holds_changes_nothing(
    stack: Stack, api: NearbyApi, probe: HistoryProbe
) -> None:
    ann = await sign_up(api)
    async with device_of(ann, stack.gateways[0]) as phone, rest(stack, ann) as me:
        with probe.refusing_writes():
            await send_all(phone, walk()[:300])
            await eventually(lambda: in_hand(stack), WITHIN_S)
            stack.kill("writer-1", signal.SIGSTOP)
            try:
                assert (await me.delete("/v1/me")).status_code == 202
                assert await waiting(stack) == 300
            finally:
                stack.kill("writer-1", signal.SIGCONT)
    await erased(stack, ann)
    await nothing_is_left(stack, probe, ann)


async def test_S14_a_deletion_is_finished_by_an_api_that_starts_again(
    stack: Stack, api: NearbyApi, probe: HistoryProbe
) -> None:
    ann = await sign_up(api)
    async with device_of(ann, stack.gateways[0]) as phone, rest(stack, ann) as me:
        await send_all(phone, walk()[:300])
        await stored(probe, ann, 300)
        with probe.refusing_writes():
            assert (await me.delete("/v1/me")).status_code == 202
            old_pid = stack.kill("api")
            await stack.restarted("api", old_pid)
            assert not await is_erased(stack, ann)
    await erased(stack, ann)
    await nothing_is_left(stack, probe, ann)


async def test_S15_every_location_ends_by_itself(stack: Stack, api: NearbyApi, probe: HistoryProbe) -> None:
    ann, ben = await sign_up(api), await sign_up(api)
    await ben.account.keep_history("1_day")
    for person in (ann, ben):
        async with device_of(person, stack.gateways[0]) as phone:
            await phone.report(PLACE)
            await phone.catch_up([{"lat": 41.88, "lon": -87.63, "recorded_at_ms": int(time.time() * 1000)}])
        await eventually(partial(asyncio.to_thread, probe.count, person.user_id), WITHIN_S)
    await eventually(lambda: is_drained(stack), WITHIN_S)
    for person, kept_ms in ((ann, 90 * DAY_MS), (ben, DAY_MS)):
        lives_ms = await asyncio.to_thread(probe.lives_ms, person.user_id)
        assert lives_ms == [pytest.approx(kept_ms, abs=2_000)] * 2
    client: Redis = Redis.from_url(stack.cache_url)
    try:
        keys = [key async for key in client.scan_iter()]
        assert any(ann.user_id.encode() in key for key in keys)
        for key in keys:
            # The stream is bounded by its length, and its entries go as they are stored.
            assert re.fullmatch(rb"history:\d+(:stored)?", key) or await client.pttl(key) > 0, key
    finally:
        await client.aclose()


async def test_who_keeps_nothing_is_live_all_the_same(stack: Stack, api: NearbyApi, probe: HistoryProbe) -> None:
    ann, ben = await sign_up(api), await sign_up(api)
    await befriend(ann, ben)
    async with ben.online(stack.gateways[1].ws_url), device_of(ann, stack.gateways[0]) as phone, rest(stack, ann) as me:
        ben.client.report(41.88, -87.63)
        await phone.report(PLACE)
        await stored(probe, ann, 1)
        await me.put("/v1/me/history-settings", json={"retention": "live_only"})
        point = {"lat": 41.88, "lon": -87.63, "recorded_at_ms": int(time.time() * 1000)}

        async def told() -> bool:
            return bool((await phone.catch_up([point]))["stored"] == 0)

        await eventually(told, WITHIN_S)
        assert (await phone.report((41.885, -87.63)))["live"]
        await eventually(lambda: ben.map.get(ann.user_id, 0) > 500, WITHIN_S)
        assert (await me.get("/v1/me/history")).json()["items"] == []
        await stored(probe, ann, 0)


@contextmanager
def frozen(stack: Stack, *names: str) -> Iterator[None]:
    for name in names:
        stack.kill(name, signal.SIGSTOP)
    try:
        yield
    finally:
        for name in names:
            stack.kill(name, signal.SIGCONT)


async def waiting(stack: Stack) -> int:
    client: Redis = Redis.from_url(stack.cache_url)
    try:
        return sum([int(await client.xlen(key)) async for key in client.scan_iter(_type="stream")])
    finally:
        await client.aclose()


async def is_drained(stack: Stack) -> bool:
    return await waiting(stack) == 0


async def in_hand(stack: Stack) -> bool:
    """Whether the writer sits on a part of what waits."""
    client: Redis = Redis.from_url(stack.cache_url)
    try:
        pending = [(await client.xpending(key, GROUP))["pending"] async for key in client.scan_iter(_type="stream")]
        return any(pending)
    finally:
        await client.aclose()


async def fenced(stack: Stack) -> float:
    """How many points the writer has dropped behind fences."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{stack.history_writer_admin_url}/metrics")).text
    [line] = [line for line in text.splitlines() if line.startswith("nearby_history_points_fenced_total ")]
    return float(line.split()[1])
