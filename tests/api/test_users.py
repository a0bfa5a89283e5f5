from __future__ import annotations

import json

import pytest

from tests.api.stack import PASSWORD, Json, Stack, assert_problem


async def test_signing_up_answers_with_the_person_and_nothing_more(stack: Stack) -> None:
    body = {"handle": "ann_1", "password": PASSWORD, "display_name": "  Ann 👩‍🚀 "}
    answer = await stack.public.post("/v1/users", json=body)
    assert answer.status_code == 201
    assert answer.json().keys() == {"user_id", "handle", "display_name"}
    assert (answer.json()["handle"], answer.json()["display_name"]) == ("ann_1", "Ann 👩‍🚀")


async def test_a_taken_handle_is_a_conflict(stack: Stack) -> None:
    await stack.user("ann")
    body = {"handle": "ann", "password": PASSWORD, "display_name": "Another"}
    assert_problem(await stack.public.post("/v1/users", json=body), 409, "handle_taken")


@pytest.mark.parametrize(
    "change",
    [
        {"handle": "an"},
        {"handle": "a" * 31},
        {"handle": "Ann"},
        {"handle": "ann\n"},
        {"handle": "änn"},
        {"handle": 123},
        {"handle": None},
        {"password": "123456789"},
        {"password": "x" * 1025},
        {"password": "\ud800 lone surrogate"},
        {"display_name": ""},
        {"display_name": "   "},
        {"display_name": "a\x00b"},
        {"display_name": "\ud800"},
        {"display_name": "x" * 101},
        {"admin": True},
    ],
    ids=str,
)
async def test_a_sign_up_with_a_wrong_field_is_refused_without_quoting_it(stack: Stack, change: Json) -> None:
    body = {"handle": "ann", "password": PASSWORD, "display_name": "Ann", **change}
    # json.dumps can write a lone surrogate, which httpx cannot.
    headers = {"Content-Type": "application/json"}
    answer = await stack.public.post("/v1/users", content=json.dumps(body), headers=headers)
    assert_problem(answer, 422, "invalid_request")
    assert next(iter(change)) in answer.json()["detail"]
    assert PASSWORD not in answer.text


@pytest.mark.parametrize("field", ["handle", "password", "display_name"])
async def test_a_sign_up_without_a_field_is_refused(stack: Stack, field: str) -> None:
    body = {"handle": "ann", "password": PASSWORD, "display_name": "Ann"}
    del body[field]
    assert_problem(await stack.public.post("/v1/users", json=body), 422, "invalid_request")


async def test_somebody_is_found_by_their_exact_handle(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    answer = await stack.get("/v1/users?handle=bob", ann)
    assert (answer.status_code, answer.json()) == (200, bob.person)
    for handle in ("bo", "BOB", "b%25", "%00"):
        assert_problem(await stack.get(f"/v1/users?handle={handle}", ann), 404, "user_not_found")
    assert_problem(await stack.get("/v1/users", ann), 422, "invalid_request")


async def test_me_is_who_asks(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    assert (await stack.get("/v1/me", ann)).json() == ann.person
    assert (await stack.get("/v1/me", bob)).json() == bob.person


async def test_a_display_name_can_be_changed(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    answer = await stack.patch("/v1/me", ann, {"display_name": "Anna"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await stack.get("/v1/users?handle=ann", bob)).json()["display_name"] == "Anna"
    assert await stack.feed() == [], "a name is no matter for gateways"


@pytest.mark.parametrize("body", [{"handle": "other"}, {"display_name": ""}, {"password": "short"}], ids=str)
async def test_a_wrong_change_of_oneself_is_refused(stack: Stack, body: Json) -> None:
    ann = await stack.user("ann")
    assert_problem(await stack.patch("/v1/me", ann, body), 422, "invalid_request")
    assert (await stack.get("/v1/me", ann)).json() == ann.person
