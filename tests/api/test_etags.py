from __future__ import annotations

import pytest

from tests.api.stack import Stack, assert_problem


@pytest.mark.parametrize(
    "path", ["/v1/me", "/v1/friends", "/v1/me/sharing", "/v1/me/history-settings", "/v1/blocks", "/openapi.json"]
)
async def test_who_has_the_answer_already_is_told_so(stack: Stack, path: str) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    first = await stack.get(path, ann)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = await stack.public.get(path, headers={**ann.headers, "If-None-Match": condition})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert "content-type" not in answer.headers
    answer = await stack.public.get(path, headers={**ann.headers, "If-None-Match": '"other"'})
    assert (answer.status_code, answer.content) == (200, first.content)


async def test_a_changed_list_has_another_tag(stack: Stack) -> None:
    ann, bob, cat = await stack.users("ann", "bob", "cat")
    await stack.befriend(ann, bob)
    tag = (await stack.get("/v1/friends", ann)).headers["etag"]
    await stack.befriend(ann, cat)
    answer = await stack.public.get("/v1/friends", headers={**ann.headers, "If-None-Match": tag})
    assert (answer.status_code, len(answer.json()["items"])) == (200, 2)


async def test_errors_and_writes_have_no_tag(stack: Stack) -> None:
    ann = await stack.user("ann")
    assert "etag" not in (await stack.get("/v1/users?handle=nobody", ann)).headers
    assert "etag" not in (await stack.post("/v1/invites", ann, {})).headers


async def test_a_switch_is_set_only_if_it_is_the_one_that_was_read(stack: Stack) -> None:
    ann = await stack.user("ann")
    read = await stack.get("/v1/me/sharing", ann)
    headers = {**ann.headers, "If-Match": read.headers["etag"]}
    pause = {"state": "paused"}
    assert (await stack.public.put("/v1/me/sharing", headers=headers, json=pause)).status_code == 200
    for state in ("paused", "on"):
        answer = await stack.public.put("/v1/me/sharing", headers=headers, json={"state": state})
        assert_problem(answer, 412, "precondition_failed")
    assert (await stack.get("/v1/me/sharing", ann)).json()["state"] == "paused"
    anything = {**ann.headers, "If-Match": "*"}
    assert (await stack.public.put("/v1/me/sharing", headers=anything, json={"state": "on"})).status_code == 200


async def test_a_name_is_changed_only_if_it_is_the_one_that_was_read(stack: Stack) -> None:
    ann = await stack.user("ann")
    headers = {**ann.headers, "If-Match": (await stack.get("/v1/me", ann)).headers["etag"]}
    assert (await stack.public.patch("/v1/me", headers=headers, json={"display_name": "Anna"})).status_code == 204
    answer = await stack.public.patch("/v1/me", headers=headers, json={"display_name": "Annika"})
    assert_problem(answer, 412, "precondition_failed")
    assert (await stack.get("/v1/me", ann)).json()["display_name"] == "Anna"


async def test_a_retention_is_set_only_if_it_is_the_one_that_was_read(stack: Stack) -> None:
    ann = await stack.user("ann")
    path = "/v1/me/history-settings"
    headers = {**ann.headers, "If-Match": (await stack.get(path, ann)).headers["etag"]}
    assert (await stack.public.put(path, headers=headers, json={"retention": "1_day"})).status_code == 200
    for retention in ("1_day", "live_only"):
        answer = await stack.public.put(path, headers=headers, json={"retention": retention})
        assert_problem(answer, 412, "precondition_failed")
    assert (await stack.get(path, ann)).json() == {"retention": "1_day"}


async def test_a_grant_is_changed_only_if_it_is_the_one_that_was_read(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    path = f"/v1/friends/{bob.user_id}/history-grant"
    anything = {**ann.headers, "If-Match": "*"}
    assert_problem(await stack.public.put(path, headers=anything, json={}), 412, "precondition_failed")
    assert_problem(await stack.get(path, ann), 404, "grant_not_found")
    await stack.put(path, ann, {"until_ms": stack.clock() + 1_000})
    headers = {**ann.headers, "If-Match": (await stack.get(path, ann)).headers["etag"]}
    assert (await stack.public.put(path, headers=headers, json={})).status_code == 200
    answer = await stack.public.put(path, headers=headers, json={"until_ms": stack.clock() + 5_000})
    assert_problem(answer, 412, "precondition_failed")
    assert (await stack.get(path, ann)).json()["until_ms"] is None
