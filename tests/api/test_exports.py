"""The export of everything that is held on somebody."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from api import archive, exporter
from api.exporter import Exporter
from nearby.model import HistoryPoint, Location
from nearby.record import LocationRecord
from social_graph.exports import KEPT_S, LEASE_S, Export
from tests.api.stack import Json, Stack, User, assert_problem
from tests.social_graph.clock import NOW_MS

COUNT = 2_500


async def walk(stack: Stack, user: User, count: int = COUNT) -> list[int]:
    """Here and there, so that little can be compressed. Returns the times, oldest first."""
    times = [NOW_MS - 30_000 * step for step in range(count)]
    places = [(41 + step * 7_919 % 10_007 / 1e5, -87 + step * 6_151 % 9_973 / 1e5) for step in range(count)]
    points = [
        HistoryPoint(user.user_id, Location(*place, at_ms, 8.0)) for place, at_ms in zip(places, times, strict=True)
    ]
    await stack.services.history.write_many(points)
    return times[::-1]


@pytest.fixture
def preparing(stack: Stack) -> Exporter:
    return Exporter(stack.services.graph, stack.services.cache, stack.services.history)


async def requested(stack: Stack, user: User) -> str:
    answer = await stack.post("/v1/me/exports", user)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["export_id"])


async def download(stack: Stack, user: User, export_id: str) -> zipfile.ZipFile:
    answer = await stack.get(f"/v1/me/exports/{export_id}/download", user)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    assert int(answer.headers["content-length"]) == len(answer.content)
    opened = zipfile.ZipFile(io.BytesIO(answer.content))
    assert opened.testzip() is None
    return opened


async def test_the_archive_holds_account_location_and_history(stack: Stack, preparing: Exporter) -> None:
    ann, bob, cleo = await stack.users("ann", "bob", "cleo")
    await stack.befriend(ann, bob)
    await stack.ask(cleo, ann)
    await stack.log_in(ann)
    await stack.put("/v1/me/history-settings", ann, {"retention": "30_days"})
    await stack.put(f"/v1/friends/{bob.user_id}/history-grant", ann, {"until_ms": NOW_MS + 5})
    times = await walk(stack, ann)
    await walk(stack, bob, 3)
    await stack.services.cache.write_many([(ann.user_id, LocationRecord(0, NOW_MS, 41.25, -87.63))])
    export_id = await requested(stack, ann)
    assert await preparing.work()
    with await download(stack, ann, export_id) as opened:
        assert set(opened.namelist()) == {
            "account.json",
            "last_location.json",
            "history.json",
            "history.gpx",
            "history.geojson",
        }
        account = json.loads(opened.read("account.json"))
        [me] = account["users"]
        assert (me["id"], me["handle"], me["display_name"]) == (ann.user_id, "ann", "Ann")
        assert {row["friend_id"] for row in account["friendships"]} == {bob.user_id}
        assert [row["from_id"] for row in account["friend_requests"]] == [cleo.user_id]
        assert [row["retention_s"] for row in account["history_settings"]] == [2_592_000]
        assert [row["viewer_id"] for row in account["history_grants"]] == [bob.user_id]
        assert len(account["refresh_tokens"]) == 1
        text = opened.read("account.json").decode()
        assert "argon2" not in text
        assert "hash" not in text
        assert json.loads(opened.read("last_location.json"))["lat_deg"] == 41.25
        points = json.loads(opened.read("history.json"))["points"]
        assert [point["recorded_at_ms"] for point in points] == times
        features = json.loads(opened.read("history.geojson"))["features"]
        assert [feature["properties"]["recorded_at_ms"] for feature in features] == times
        assert opened.read("history.gpx").count(b"<trkpt ") == COUNT


async def test_progress_is_told_and_an_unfinished_export_cannot_be_fetched(
    stack: Stack, preparing: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await stack.user("ann")
    await walk(stack, ann)
    export_id = await requested(stack, ann)
    seen: list[Json] = []
    add_part = stack.services.graph.exports.add_part

    async def watched(export: Export, part: int, data: bytes, done_count: int, total_count: int) -> bool:
        added = await add_part(export, part, data, done_count, total_count)
        seen.append((await stack.get(f"/v1/me/exports/{export_id}", ann)).json())
        answer = await stack.get(f"/v1/me/exports/{export_id}/download", ann)
        assert_problem(answer, 409, "export_not_ready")
        return added

    monkeypatch.setattr(stack.services.graph.exports, "add_part", watched)
    monkeypatch.setattr(exporter, "TELL_S", 0.0)
    await preparing.work()
    progress = [body["progress"] for body in seen]
    assert progress == sorted(progress, key=lambda value: float(str(value)))
    assert len(set(map(str, progress))) > 3
    assert {body["state"] for body in seen} == {"preparing"}
    ready = (await stack.get(f"/v1/me/exports/{export_id}", ann)).json()
    assert (ready["state"], ready["progress"], ready["size_bytes"] > 0) == ("ready", 1.0, True)
    assert ready["expires_ms"] == NOW_MS + KEPT_S * 1000


async def test_an_archive_of_many_parts_is_whole(
    stack: Stack, preparing: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive.Archive.take, "__kwdefaults__", {"least_bytes": 1_000})
    ann = await stack.user("ann")
    times = await walk(stack, ann)
    export_id = await requested(stack, ann)
    await preparing.work()
    export = await stack.services.graph.exports.get(ann.user_id, export_id)
    assert await stack.services.graph.exports.part(export, 3) is not None
    with await download(stack, ann, export_id) as opened:
        assert len(json.loads(opened.read("history.json"))["points"]) == len(times)


async def test_another_process_begins_again_where_one_died(stack: Stack, preparing: Exporter) -> None:
    ann = await stack.user("ann")
    await walk(stack, ann, 10)
    export_id = await requested(stack, ann)
    exports = stack.services.graph.exports
    died = await exports.claim()
    assert died is not None
    assert await exports.add_part(died, 0, b"half of it", 1, 30)
    assert not await preparing.work()
    stack.clock.advance(LEASE_S)
    assert await preparing.work()
    assert not await exports.add_part(died, 1, b"it was only frozen", 2, 30)
    await exports.finish(died)
    with await download(stack, ann, export_id) as opened:
        assert len(json.loads(opened.read("history.json"))["points"]) == 10


async def test_nobody_fetches_anothers_export(stack: Stack, preparing: Exporter) -> None:
    ann, bob, cleo = await stack.users("ann", "bob", "cleo")
    await stack.befriend(ann, bob)
    export_id = await requested(stack, ann)
    await preparing.work()
    for path in (f"/v1/me/exports/{export_id}", f"/v1/me/exports/{export_id}/download"):
        for other in (bob, cleo):
            assert_problem(await stack.get(path, other), 404, "export_not_found")
        assert_problem(await stack.public.get(path), 401, "not_authenticated")
        assert (await stack.get(path, ann)).status_code == 200
    unknown = "/v1/me/exports/00000000-0000-4000-8000-000000000000"
    assert_problem(await stack.get(unknown, ann), 404, "export_not_found")


async def test_one_export_at_a_time_and_a_new_one_replaces_it(stack: Stack, preparing: Exporter) -> None:
    ann = await stack.user("ann")
    first = await requested(stack, ann)
    assert await requested(stack, ann) == first
    await preparing.work()
    second = await requested(stack, ann)
    assert second != first
    assert_problem(await stack.get(f"/v1/me/exports/{first}", ann), 404, "export_not_found")


async def test_an_export_ends_with_its_time(stack: Stack, preparing: Exporter) -> None:
    ann = await stack.user("ann")
    export_id = await requested(stack, ann)
    await preparing.work()
    export = await stack.services.graph.exports.get(ann.user_id, export_id)
    stack.clock.advance(KEPT_S)
    ann = User(ann.user_id, ann.handle, stack.services.token_keys.issue(ann.user_id, stack.clock(), 60))
    assert_problem(await stack.get(f"/v1/me/exports/{export_id}", ann), 404, "export_not_found")
    assert not await preparing.work()
    assert await stack.services.graph.exports.part(export, 0) is None


@pytest.mark.parametrize("path", ["/v1/me", "/v1/me/history"])
async def test_deleting_what_is_in_it_deletes_an_export(stack: Stack, preparing: Exporter, path: str) -> None:
    ann = await stack.user("ann")
    await walk(stack, ann, 3)
    export_id = await requested(stack, ann)
    await preparing.work()
    export = await stack.services.graph.exports.get(ann.user_id, export_id)
    await stack.delete(path, ann)
    assert await stack.services.graph.exports.part(export, 0) is None


async def test_an_export_deleted_while_it_is_prepared_leaves_nothing(
    stack: Stack, preparing: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "TELL_S", 0.0)
    ann = await stack.user("ann")
    await walk(stack, ann, 3)
    await requested(stack, ann)
    read = stack.services.cache.read_many

    async def deletes_meanwhile(user_ids: list[object]) -> object:
        await stack.delete("/v1/me", ann)
        return await read(user_ids)  # type: ignore[arg-type]

    monkeypatch.setattr(stack.services.cache, "read_many", deletes_meanwhile)
    assert await preparing.work()
    assert not await preparing.work()
