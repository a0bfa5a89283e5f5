"""Every route about somebody's own data, asked by everybody else: none of it is theirs (S4, S5)."""

from __future__ import annotations

import pytest

from api.exporter import Exporter
from nearby.model import HistoryPoint, Location
from tests.api.stack import Json, Stack, User
from tests.social_graph.clock import NOW_MS

GRANT: Json = {"until_ms": None}
# {export}: ann's export; {ann}: her id. What a friend and a stranger are answered, and what nobody is: 401.
ROUTES: list[tuple[str, str, Json | None, int, int]] = [
    ("GET", "/v1/me/history", None, 200, 200),
    ("GET", "/v1/me/history?format=gpx", None, 200, 200),
    ("DELETE", "/v1/me/history", None, 204, 204),
    ("GET", "/v1/me/history-settings", None, 200, 200),
    ("PUT", "/v1/me/history-settings", {"retention": "live_only"}, 200, 200),
    ("POST", "/v1/me/exports", None, 202, 202),
    ("GET", "/v1/me/exports/{export}", None, 404, 404),
    ("GET", "/v1/me/exports/{export}/download", None, 404, 404),
    ("POST", "/v1/locations", {"location": {"lat": 1, "lon": 2}}, 200, 200),
    ("GET", "/v1/friends/{ann}/history", None, 404, 404),
    ("GET", "/v1/friends/{ann}/history-grant", None, 404, 404),
    ("PUT", "/v1/friends/{ann}/history-grant", GRANT, 200, 404),
    ("DELETE", "/v1/friends/{ann}/history-grant", None, 204, 204),
    ("DELETE", "/v1/me", None, 202, 202),
]


@pytest.mark.parametrize(("method", "path", "body", "friends", "strangers"), ROUTES, ids=lambda value: str(value)[:60])
async def test_S4_nobody_touches_anothers_data(
    stack: Stack, method: str, path: str, body: Json | None, friends: int, strangers: int
) -> None:
    ann, friend, stranger, deleted = await stack.users("ann", "friend", "stranger", "deleted")
    await stack.befriend(ann, friend)
    await stack.befriend(ann, deleted)
    await stack.delete("/v1/me", deleted)
    await stack.services.history.write_many([HistoryPoint(ann.user_id, Location(41.5, 2.5, NOW_MS))])
    export_id = (await stack.post("/v1/me/exports", ann)).json()["export_id"]
    await Exporter(stack.services.graph, stack.services.cache, stack.services.history).work()
    url = path.format(ann=ann.user_id, export=export_id)
    for user, expected in ((friend, friends), (stranger, strangers), (deleted, 401)):
        answer = await stack.public.request(method, url, headers=user.headers, json=body)
        assert answer.status_code == expected, (user.handle, answer.text)
        assert "41.5" not in answer.text
    assert (await stack.public.request(method, url, json=body)).status_code == 401
    await untouched(stack, ann, friend, export_id)


async def untouched(stack: Stack, ann: User, friend: User, export_id: str) -> None:
    assert (await stack.get("/v1/me", ann)).json() == ann.person
    assert len((await stack.get("/v1/me/history", ann)).json()["items"]) == 1
    assert (await stack.get("/v1/me/history-settings", ann)).json() == {"retention": "default"}
    assert (await stack.get(f"/v1/me/exports/{export_id}/download", ann)).status_code == 200
    assert (await stack.get(f"/v1/friends/{friend.user_id}/history-grant", ann)).status_code == 404
