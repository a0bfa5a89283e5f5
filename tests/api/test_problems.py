from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from location_cache.redis import open_cache
from social_graph.users import Users
from tests.api.stack import PASSWORD, Stack, assert_problem
from tests.conftest import ValkeyServers
from tests.social_graph import raw


async def test_an_unknown_path_is_a_problem(stack: Stack) -> None:
    assert_problem(await stack.public.get("/v1/nothing"), 404, "not_found")


async def test_a_wrong_method_is_a_problem_that_names_the_right_ones(stack: Stack) -> None:
    answer = await stack.public.put("/v1/tokens", json={})
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, POST"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"null", b"[" * 10_000], ids=repr)
async def test_a_body_that_is_no_object_is_a_problem(stack: Stack, body: bytes) -> None:
    answer = await stack.public.post("/v1/tokens", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert_problem(answer, answer.status_code, "invalid_request" if answer.status_code == 422 else "bad_request")


async def test_a_body_that_is_too_large_is_refused_announced_or_not(stack: Stack) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b" " * 1_000

    assert_problem(await stack.public.post("/v1/tokens", content=b" " * 70_000), 413, "too_large")
    headers = {"Content-Type": "application/json"}
    assert_problem(await stack.public.post("/v1/tokens", content=chunks(), headers=headers), 413, "too_large")


async def test_a_failure_of_ours_shows_no_trace(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = await stack.user("ann")

    async def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Users, "get", fail)
    answer = await stack.get("/v1/me", ann)
    assert_problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


async def test_a_database_that_fails_is_503_with_retry_after_and_heals(
    stack: Stack, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ann = await stack.user("ann")
    await raw.execute(database_url, "ALTER TABLE users RENAME TO lost")
    for answer in (
        await stack.get("/v1/me", ann),
        await stack.public.post("/v1/tokens", json={"handle": "ann", "password": PASSWORD}),
    ):
        assert_problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "users" not in answer.text
    await raw.execute(database_url, "ALTER TABLE lost RENAME TO users")
    assert (await stack.get("/v1/me", ann)).status_code == 200
    assert PASSWORD not in caplog.text
    assert ann.access_token not in caplog.text


async def test_a_dead_cache_fails_only_what_needs_it(stack: Stack, valkey_servers: ValkeyServers) -> None:
    ann = await stack.user("ann")
    server = valkey_servers()
    async with open_cache(server.url, 600) as cache:
        stack.use(replace(stack.services, cache=cache))
        server.kill()
        answer = await stack.get("/v1/nearby", ann)
        assert_problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert (await stack.get("/v1/friends", ann)).status_code == 200


async def test_the_root_shows_the_way(stack: Stack) -> None:
    body = (await stack.public.get("/")).json()
    assert body["name"] == "nearby"
    assert (await stack.public.get(body["links"]["openapi"])).status_code == 200


async def test_the_openapi_document_declares_problems_and_only_what_exists(stack: Stack) -> None:
    document = (await stack.public.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/",
        "/v1/users",
        "/v1/tokens",
        "/v1/tokens/refresh",
        "/v1/tokens/exchange",
        "/v1/me",
        "/v1/me/sharing",
        "/v1/locations",
        "/v1/me/history",
        "/v1/me/history-settings",
        "/v1/me/exports",
        "/v1/me/exports/{export_id}",
        "/v1/me/exports/{export_id}/download",
        "/v1/friends/{user_id}/history",
        "/v1/friends/{user_id}/history-grant",
        "/v1/friend-requests",
        "/v1/friend-requests/{request_id}",
        "/v1/friend-requests/{request_id}/accept",
        "/v1/friend-requests/{request_id}/decline",
        "/v1/friends",
        "/v1/friends/{user_id}",
        "/v1/friends/{user_id}/sharing",
        "/v1/me/viewers",
        "/v1/circles",
        "/v1/circles/{circle_id}",
        "/v1/circles/{circle_id}/members/{user_id}",
        "/v1/blocks",
        "/v1/blocks/{user_id}",
        "/v1/invites",
        "/v1/invitations/accept",
        "/v1/invitations/look-up",
        "/v1/invites/{invite_id}",
        "/v1/nearby",
        "/v1/gateway",
    }
    for path, operations in document["paths"].items():
        if path == "/":
            continue
        for method, operation in operations.items():
            errors = {status: answer for status, answer in operation["responses"].items() if status[0] in "45"}
            assert errors, (method, path)
            for answer in errors.values():
                assert list(answer["content"]) == ["application/problem+json"], (method, path)


async def test_metrics_know_routes_and_no_users(stack: Stack, registry: CollectorRegistry) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await stack.delete(f"/v1/friends/{bob.user_id}", ann)
    await stack.get("/v1/nothing/at/all", ann)
    await stack.feed()

    def counted(route: str, method: str, status: str) -> float | None:
        labels = {"route": route, "method": method, "status": status}
        return registry.get_sample_value("nearby_api_requests_total", labels)

    assert counted("/v1/users", "POST", "201") == 2
    assert counted("/v1/friends/{user_id}", "DELETE", "204") == 1
    assert counted("unmatched", "GET", "404") == 1
    assert counted("/internal/v1/changes", "GET", "200") == 1
    seconds = registry.get_sample_value("nearby_api_request_seconds_count", {"route": "/v1/users", "method": "POST"})
    assert seconds == 2
    labels = [value for metric in registry.collect() for sample in metric.samples for value in sample.labels.values()]
    assert not any(ann.user_id in value or bob.user_id in value for value in labels)
