"""Security S4: every operation of the OpenAPI document × every kind of caller (:mod:`tests.api.bola_matrix`)."""

from __future__ import annotations

import uuid

import httpx
import pytest
from prometheus_client import CollectorRegistry

from api.exporter import Exporter
from api.metrics import RequestMetrics
from api.openapi import operations
from api.public import create_app
from nearby.model import HistoryPoint, Location, UserId
from nearby.ports import Member, MemberState, Role
from nearby.record import LocationRecord
from tests.api.bola_matrix import MATRIX, Caller, Row, World
from tests.api.stack import TOKEN_KEYS, Stack, User
from tests.social_graph import raw
from tests.social_graph.clock import NOW_MS

OPERATIONS = sorted(
    (method.upper(), path)
    for path, method, _ in operations(create_app(None, RequestMetrics(CollectorRegistry())).openapi())  # type: ignore[arg-type]
)
ADMIN_TOKEN = "admin-token-of-tests"
LAT = 41.123456
OUTSIDERS = (Caller.NOBODY, Caller.ADMIN, Caller.DELETED, Caller.BLOCKED, Caller.STRANGER)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Who may do what is decided before the database is asked, or by queries that are the same on both."""
    return sqlite_url


@pytest.fixture
async def world(stack: Stack, database_url: str) -> World:
    names = ("owner", "friend", "other_friend", "stranger", "blocked", "deleted", "asker", "asked")
    # By hand, because each sign-up hashes a password.
    people = {name: _user(name, stack.clock()) for name in names}
    await raw.execute(
        database_url,
        *(
            "INSERT INTO users (id, handle, display_name, password_hash, sharing_paused, switch_sequence,"
            f" tokens_valid_from_ms, created_ms) VALUES ('{user.user_id}', '{user.handle}', 'name of {user.handle}',"
            " '-', false, 0, 0, 0)"
            for user in people.values()
        ),
    )
    owner = people["owner"]
    for name in ("friend", "other_friend"):
        await stack.befriend(owner, people[name])
    incoming, outgoing = await stack.ask(people["asker"], owner), await stack.ask(owner, people["asked"])
    await stack.put(f"/v1/blocks/{people['blocked'].user_id}", owner, {})
    invite = (await stack.post("/v1/invites", owner, {"max_uses": 5})).json()
    await raw.execute(database_url, f"DELETE FROM users WHERE id = '{people['deleted'].user_id}'")
    await stack.put(f"/v1/friends/{people['friend'].user_id}/history-grant", owner, {})
    circle = (await stack.post("/v1/circles", owner, {"name": "Work", "precision": "exact"})).json()["circle_id"]
    await stack.put(f"/v1/circles/{circle}/members/{people['friend'].user_id}", owner, {})
    await _locate(stack, [user for name, user in people.items() if name != "deleted"])
    export = (await stack.post("/v1/me/exports", owner)).json()
    await Exporter(stack.services.graph, stack.services.cache, stack.services.history).work()
    return World(
        **{name: people[name] for name in names[:6]},
        incoming_request=incoming,
        outgoing_request=outgoing,
        invite_id=invite["invite_id"],
        invite_token=invite["token"],
        export_id=export["export_id"],
        circle_id=circle,
    )


def _user(name: str, now_ms: int) -> User:
    user_id = UserId(str(uuid.uuid4()))
    return User(user_id, f"the_{name}", TOKEN_KEYS.issue(user_id, now_ms, 3_600))


async def _locate(stack: Stack, users: list[User]) -> None:
    location = Location(LAT, -87.6, NOW_MS)
    records = [(user.user_id, LocationRecord.of(location)) for user in users]
    await stack.services.cache.write_many(records)
    await stack.services.history.write_many([HistoryPoint(users[0].user_id, location)])
    member = Member(Role.GATEWAY, "gw-1", MemberState.SERVING, url="ws://gateway")
    stack.services.gateways.update({"gw-1": member})


def _token(world: World, caller: Caller) -> str | None:
    match caller:
        case Caller.NOBODY:
            return None
        case Caller.ADMIN:
            return ADMIN_TOKEN
        case Caller.SELF:
            return world.owner.access_token
        case _:
            user: User = getattr(world, caller.value)
            return user.access_token


async def _call(stack: Stack, world: World, method: str, template: str, row: Row, caller: Caller) -> httpx.Response:
    path = template if row.path is None else row.path(world)
    token = _token(world, caller)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    body = None if row.body is None else row.body(world)
    return await stack.public.request(method, path, headers=headers, json=body)


async def _rows_naming(database_url: str, user: User) -> set[str]:
    return {line for line in (await raw.dump(database_url)).splitlines() if user.user_id in line}


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part)
async def test_S4_each_caller_gets_what_is_theirs(
    stack: Stack, world: World, database_url: str, method: str, path: str
) -> None:
    assert (method, path) in MATRIX, "a new operation needs a row in tests/api/bola_matrix.py"
    row = MATRIX[method, path]
    owner = world.owner
    # The least trusted first, so that what they see has not been changed by who may change it.
    for caller in Caller:
        before = await _rows_naming(database_url, owner)
        answer = await _call(stack, world, method, path, row, caller)
        assert answer.status_code == row.status(caller), (caller, answer.text)
        if caller in OUTSIDERS:
            if caller not in row.tells:
                for private in (owner.user_id, f"name of {owner.handle}", str(LAT)):
                    assert private not in answer.text, caller
            if caller not in row.touches:
                assert await _rows_naming(database_url, owner) == before, caller


def test_no_row_is_of_an_operation_that_is_gone() -> None:
    assert set(MATRIX) == set(OPERATIONS)


async def test_negative_control_the_friend_of_this_world_is_told_of_its_owner(stack: Stack, world: World) -> None:
    assert world.owner.user_id in (await stack.get("/v1/friends", world.friend)).text
    assert str(LAT) in (await stack.get("/v1/nearby", world.friend)).text
    assert str(LAT) in (await stack.get("/v1/me/history", world.owner)).text
    assert str(LAT) in (await stack.get(f"/v1/friends/{world.owner.user_id}/history", world.friend)).text
