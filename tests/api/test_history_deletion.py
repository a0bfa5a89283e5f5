"""Deleting a range of one's history, and keeping it for less long."""

from __future__ import annotations

import pytest

from location_history.consumer import open_consumer
from location_history.stream import open_stream
from nearby.changes import HistoryRetentionChanged
from nearby.model import HistoryPoint, Location
from social_graph.erasures import LEASE_S, MAX_WAITING_RANGES, RETENTION_SLACK_S
from tests.api.stack import Ear, Stack, User, assert_problem
from tests.social_graph.clock import NOW_MS
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

DAY_MS = 86_400_000


def points(user: User, *recorded_at_ms: int) -> list[HistoryPoint]:
    return [HistoryPoint(user.user_id, Location(1.5, 2.5, at_ms)) for at_ms in recorded_at_ms]


async def stored(stack: Stack, user: User) -> list[int]:
    page = await stack.services.history.read(user.user_id, 0, 2**53, 1_000)
    return [point.location.recorded_at_ms for point in page.points]


async def shown(stack: Stack, user: User) -> list[int]:
    answer = await stack.get("/v1/me/history", user)
    return [item["recorded_at_ms"] for item in answer.json()["items"]]


async def retention(stack: Stack, user: User, name: str) -> None:
    answer = await stack.put("/v1/me/history-settings", user, {"retention": name})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"retention": name}
    assert (await stack.get("/v1/me/history-settings", user)).json() == {"retention": name}


async def test_a_range_is_deleted_and_the_rest_and_others_stay(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    for user in (ann, bob):
        await stack.services.history.write_many(points(user, *range(NOW_MS - 5, NOW_MS + 1)))
    answer = await stack.delete(f"/v1/me/history?from_ms={NOW_MS - 4}&to_ms={NOW_MS - 1}", ann)
    assert (answer.status_code, answer.content) == (204, b"")
    assert await shown(stack, ann) == [NOW_MS, NOW_MS - 1, NOW_MS - 5]
    assert len(await shown(stack, bob)) == 6


async def test_everything_is_deleted_by_default_and_new_points_come_again(stack: Stack, valkey: ValkeyServer) -> None:
    ann = await stack.user("ann")
    await stack.services.history.write_many(points(ann, NOW_MS - 90 * DAY_MS + 5, NOW_MS))
    assert (await stack.delete("/v1/me/history", ann)).status_code == 204
    assert await stored(stack, ann) == []
    async with open_stream(valkey.url, 1_000) as stream, open_consumer(valkey.url, "one") as consumer:
        fence = await stream.fence(ann.user_id, 0, 1)

        async def behind() -> bool:
            return (await stream.fence(ann.user_id, 0, 1)).at_ms > fence.at_ms + 1

        await eventually(behind)
        await stream.append_many(points(ann, NOW_MS))
        [entry] = await eventually(lambda: consumer.read(10))
        await stack.services.history.write_many([entry.point])
    assert await stored(stack, ann) == [NOW_MS]


async def test_what_waits_in_the_stream_is_deleted_later_and_the_answer_says_so(
    stack: Stack, valkey: ValkeyServer
) -> None:
    ann = await stack.user("ann")
    async with open_stream(valkey.url, 1_000) as stream, open_consumer(valkey.url, "one") as consumer:
        await stream.append_many(points(ann, NOW_MS - 1, NOW_MS))
        entries = await eventually(lambda: consumer.read(10))
        assert (await stack.delete(f"/v1/me/history?to_ms={NOW_MS}", ann)).status_code == 202
        await stack.services.history.write_many([entry.point for entry in entries])
        await consumer.acknowledge(entries)
    stack.clock.advance(LEASE_S)
    assert await stack.services.eraser.work() == 1
    assert await stored(stack, ann) == [NOW_MS]
    stack.clock.advance(LEASE_S)
    assert await stack.services.eraser.work() == 0


async def test_no_more_than_so_many_deletions_wait(stack: Stack) -> None:
    ann = await stack.user("ann")
    for _ in range(MAX_WAITING_RANGES):
        await stack.services.graph.erasures.delete_range(ann.user_id, 0, 1)
    assert_problem(await stack.delete("/v1/me/history", ann), 409, "too_many_deletions")


@pytest.mark.parametrize("query", ["from_ms=-1", "to_ms=x", "from_ms=9007199254740992"])
async def test_a_wrong_range_is_refused(stack: Stack, query: str) -> None:
    ann = await stack.user("ann")
    assert_problem(await stack.delete(f"/v1/me/history?{query}", ann), 422, "invalid_request")


async def test_by_default_everything_is_kept_as_long_as_the_store_does(stack: Stack) -> None:
    ann = await stack.user("ann")
    assert (await stack.get("/v1/me/history-settings", ann)).json() == {"retention": "default"}


async def test_a_shorter_retention_hides_at_once_and_deletes_what_is_older(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    times = (NOW_MS - 40 * DAY_MS, NOW_MS - 20 * DAY_MS, NOW_MS - DAY_MS // 2)
    for user in (ann, bob):
        await stack.services.history.write_many(points(user, *times))
    await retention(stack, ann, "30_days")
    assert await shown(stack, ann) == [times[2], times[1]]
    await retention(stack, ann, "1_day")
    assert await shown(stack, ann) == [times[2]]
    assert await stack.services.eraser.work() == 1
    assert await stored(stack, ann) == [times[2]]
    assert len(await stored(stack, bob)) == 3


async def test_points_stored_for_longer_go_when_the_shorter_retention_ends(stack: Stack) -> None:
    ann = await stack.user("ann")
    await stack.services.history.write_many(points(ann, NOW_MS))
    await retention(stack, ann, "1_day")
    assert await stack.services.eraser.work() == 1
    assert await stored(stack, ann) == [NOW_MS]
    worked = []
    for _ in range(60):
        stack.clock.advance(3_600)
        worked.append(await stack.services.eraser.work())
    assert worked == [1] * ((86_400 + RETENTION_SLACK_S) // 3_600) + [0] * (60 - (86_400 + RETENTION_SLACK_S) // 3_600)
    assert await stored(stack, ann) == []


async def test_live_only_shows_and_keeps_nothing(stack: Stack, ear: Ear) -> None:
    ann = await stack.user("ann")
    await stack.services.history.write_many(points(ann, NOW_MS - DAY_MS, NOW_MS))
    await retention(stack, ann, "live_only")
    assert await shown(stack, ann) == []
    assert (await stack.get("/v1/me/history?format=csv", ann)).text.count("\n") == 1
    assert await stack.services.eraser.work() == 1
    assert await stored(stack, ann) == []


async def test_gateways_learn_of_the_retention(stack: Stack) -> None:
    ann = await stack.user("ann")
    await retention(stack, ann, "1_day")
    await retention(stack, ann, "1_day")
    await retention(stack, ann, "default")
    assert await stack.feed() == [
        HistoryRetentionChanged(1, ann.user_id, 86_400),
        HistoryRetentionChanged(2, ann.user_id, None),
    ]
    await retention(stack, ann, "live_only")
    [friends] = await stack.services.graph.friend_lists.read([ann.user_id])
    assert friends is not None
    assert friends.history_retention_s == 0


@pytest.mark.parametrize("body", [{}, {"retention": "2_days"}, {"retention": 0}, {"retention": "default", "more": 1}])
async def test_a_wrong_retention_is_refused(stack: Stack, body: dict[str, object]) -> None:
    ann = await stack.user("ann")
    assert_problem(await stack.put("/v1/me/history-settings", ann, body), 422, "invalid_request")
