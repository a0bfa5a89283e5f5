from __future__ import annotations

import pytest

from nearby.codecs import JSON
from nearby.geo import distance_m
from nearby.messages import Snapshot
from nearby.model import Location
from nearby.record import LocationRecord
from tests.api.stack import Stack, User, assert_problem
from tests.social_graph.clock import NOW_MS

METRES_PER_DEGREE = distance_m(0, 0, 1, 0)


async def _stand(stack: Stack, user: User, metres_north: float, **more: float) -> None:
    location = Location(metres_north / METRES_PER_DEGREE, 10.0, NOW_MS, **more)
    await stack.services.cache.write_many([(user.user_id, LocationRecord.of(location))])


async def _seen(stack: Stack, user: User, radius_m: float | None = None) -> dict[str, int]:
    query = "" if radius_m is None else f"?radius_m={radius_m}"
    answer = await stack.get(f"/v1/nearby{query}", user)
    assert answer.status_code == 200, answer.text
    return {entry["user_id"]: entry["distance_m"] for entry in answer.json()["friends"]}


async def test_before_my_first_report_there_is_nothing_to_compute(stack: Stack) -> None:
    assert_problem(await stack.get("/v1/nearby", await stack.user("ann")), 409, "location_unknown")


async def test_entries_are_those_of_a_snapshot(stack: Stack) -> None:
    ann, bob, cat = await stack.users("ann", "bob", "cat")
    await stack.befriend(ann, bob)
    await stack.befriend(ann, cat)
    await _stand(stack, ann, 0)
    await _stand(stack, bob, 1_000, accuracy_m=8, speed_mps=1.5, heading_deg=90)
    await _stand(stack, cat, 500)
    answer = await stack.get("/v1/nearby", ann)
    first, second = answer.json()["friends"]
    assert first == {
        "user_id": cat.user_id,
        "lat": pytest.approx(500 / METRES_PER_DEGREE, abs=1e-7),
        "lon": 10.0,
        "distance_m": 500,
        "updated_at_ms": NOW_MS,
        "precision": "exact",
    }
    assert second.items() >= {"accuracy_m": 8.0, "speed_mps": 1.5, "heading_deg": 90.0, "distance_m": 1_000}.items()
    snapshot = JSON.decode_server(b'{"type":"snapshot",' + answer.content.removeprefix(b"{"))
    assert isinstance(snapshot, Snapshot)
    assert [entry.distance_m for entry in snapshot.friends] == [500, 1_000], "nearest first"


async def test_the_radius_bounds_what_is_seen(stack: Stack) -> None:
    ann, near, far = await stack.users("ann", "near", "far")
    await stack.befriend(ann, near)
    await stack.befriend(ann, far)
    await _stand(stack, ann, 0)
    await _stand(stack, near, 999)
    await _stand(stack, far, 8_100)
    assert await _seen(stack, ann, 998) == {}
    assert await _seen(stack, ann, 1_000) == {near.user_id: 999}
    assert await _seen(stack, ann) == {near.user_id: 999}, "five miles, if nothing else is said"
    assert await _seen(stack, ann, 50_000) == {near.user_id: 999, far.user_id: 8_100}


async def test_a_stranger_is_not_seen_whatever_they_asked_for(stack: Stack) -> None:
    ann, eve = await stack.users("ann", "eve")
    for user in (ann, eve):
        await _stand(stack, user, 0)
    await stack.ask(eve, ann)
    assert await _seen(stack, eve) == await _seen(stack, ann) == {}


async def test_a_friend_who_paused_is_not_seen_until_the_pause_is_over(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    for user in (ann, bob):
        await _stand(stack, user, 0)
    await stack.put("/v1/me/sharing", bob, {"state": "paused", "until_ms": stack.clock() + 1_000})
    assert await _seen(stack, ann) == {}
    assert await _seen(stack, bob) == {ann.user_id: 0}
    stack.clock.advance(1)
    assert await _seen(stack, ann) == {bob.user_id: 0}


async def test_a_removed_friend_is_not_seen(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    for user in (ann, bob):
        await _stand(stack, user, 0)
    assert await _seen(stack, ann) == {bob.user_id: 0}
    await stack.delete(f"/v1/friends/{ann.user_id}", bob)
    assert await _seen(stack, ann) == await _seen(stack, bob) == {}


async def test_a_friend_who_is_not_in_the_cache_is_not_seen(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await _stand(stack, ann, 0)
    assert await _seen(stack, ann) == {}


@pytest.mark.parametrize("radius_m", ["49", "50001", "nan", "inf", "x", ""])
async def test_a_wrong_radius_is_refused(stack: Stack, radius_m: str) -> None:
    ann = await stack.user("ann")
    assert_problem(await stack.get(f"/v1/nearby?radius_m={radius_m}", ann), 422, "invalid_request")
