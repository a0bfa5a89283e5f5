from __future__ import annotations

import pytest

from nearby.model import HistoryPoint, Location
from tests.api.stack import Json, Stack, User, assert_problem
from tests.social_graph.clock import NOW_MS


async def _walk(stack: Stack, user: User, *recorded_at_ms: int) -> None:
    points = [HistoryPoint(user.user_id, Location(1.5, 2.5, at_ms)) for at_ms in recorded_at_ms]
    await stack.services.history.write_many(points)


async def _times(stack: Stack, user: User, query: str = "") -> list[int]:
    answer = await stack.get(f"/v1/me/history{query}", user)
    assert answer.status_code == 200, answer.text
    return [item["recorded_at_ms"] for item in answer.json()["items"]]


async def test_points_come_newest_first_with_what_the_device_said(stack: Stack) -> None:
    ann = await stack.user("ann")
    await _walk(stack, ann, NOW_MS - 1_000)
    moving = Location(3.0, 4.0, NOW_MS, accuracy_m=5.0, speed_mps=1.5, heading_deg=90.0)
    await stack.services.history.write_many([HistoryPoint(ann.user_id, moving, flagged=True)])
    expected: Json = {
        "items": [
            {
                "lat": 3.0,
                "lon": 4.0,
                "recorded_at_ms": NOW_MS,
                "accuracy_m": 5.0,
                "speed_mps": 1.5,
                "heading_deg": 90.0,
                "flagged": True,
            },
            {"lat": 1.5, "lon": 2.5, "recorded_at_ms": NOW_MS - 1_000, "flagged": False},
        ],
        "next_cursor": None,
    }
    assert (await stack.get("/v1/me/history", ann)).json() == expected


async def test_nobody_reads_anothers_history(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await _walk(stack, ann, NOW_MS)
    assert await _times(stack, bob) == []
    assert await _times(stack, bob, f"?user_id={ann.user_id}") == []
    for path in (f"/v1/users/{ann.user_id}/history", f"/v1/me/history/{ann.user_id}"):
        assert_problem(await stack.get(path, bob), 404, "not_found")
    assert_problem(await stack.get(f"/v1/friends/{ann.user_id}/history", bob), 404, "friend_not_found")
    assert_problem(await stack.public.get("/v1/me/history"), 401, "not_authenticated")
    assert await _times(stack, ann) == [NOW_MS]


async def test_a_cursor_of_anothers_list_shows_only_ones_own(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await _walk(stack, ann, NOW_MS - 2, NOW_MS - 1, NOW_MS)
    await _walk(stack, bob, NOW_MS - 5)
    cursor = (await stack.get("/v1/me/history?limit=1", ann)).json()["next_cursor"]
    assert await _times(stack, bob, f"?cursor={cursor}") == [NOW_MS - 5]


async def test_the_interval_is_half_open(stack: Stack) -> None:
    ann = await stack.user("ann")
    await _walk(stack, ann, *range(NOW_MS - 4, NOW_MS + 1))
    assert await _times(stack, ann, f"?from_ms={NOW_MS - 3}&to_ms={NOW_MS}") == [NOW_MS - 1, NOW_MS - 2, NOW_MS - 3]


async def test_pages_together_are_the_whole_interval_once(stack: Stack) -> None:
    ann = await stack.user("ann")
    await _walk(stack, ann, *range(NOW_MS - 6, NOW_MS + 1))
    found: list[int] = []
    cursor = ""
    pages = 0
    while pages < 10:
        body = (await stack.get(f"/v1/me/history?from_ms={NOW_MS - 5}&to_ms={NOW_MS}&limit=2{cursor}", ann)).json()
        found += [item["recorded_at_ms"] for item in body["items"]]
        pages += 1
        if body["next_cursor"] is None:
            break
        cursor = f"&cursor={body['next_cursor']}"
    assert found == [NOW_MS - 1, NOW_MS - 2, NOW_MS - 3, NOW_MS - 4, NOW_MS - 5]


@pytest.mark.parametrize(
    "query", ["from_ms=-1", "to_ms=x", "to_ms=9007199254740992", "limit=0", "limit=1001", "cursor=x"]
)
async def test_a_wrong_interval_is_refused(stack: Stack, query: str) -> None:
    ann = await stack.user("ann")
    assert_problem(await stack.get(f"/v1/me/history?{query}", ann), 422, "invalid_request")
