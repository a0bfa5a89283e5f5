"""Deleting an account: at once for everybody who looks, and in every store however long that takes."""

from __future__ import annotations

from api.eraser import Attempt, Eraser
from location_cache.redis import open_cache
from location_history.consumer import open_consumer
from location_history.stream import open_stream
from nearby.changes import FriendshipChanged, TokensRevoked
from nearby.model import HistoryPoint, Location
from nearby.record import LocationRecord
from social_graph.erasures import LEASE_S
from tests.api.stack import PASSWORD, Ear, Stack, User, assert_problem
from tests.conftest import ValkeyServers
from tests.social_graph import raw
from tests.social_graph.clock import NOW_MS
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

RECORD = LocationRecord(0, NOW_MS, 41.88, -87.63)


def point(user: User, recorded_at_ms: int = NOW_MS) -> HistoryPoint:
    return HistoryPoint(user.user_id, Location(1.5, 2.5, recorded_at_ms))


async def history_of(stack: Stack, user: User) -> list[int]:
    page = await stack.services.history.read(user.user_id, 0, 2**53, 1_000)
    return [found.location.recorded_at_ms for found in page.points]


async def tables_that_know(url: str, user: User) -> set[str]:
    """The tables with the user's id in any column, besides the change feed."""
    return {table for table, _ in await raw.mentions(url, user.user_id)} - {"changes"}


async def test_a_deleted_user_is_nobody_at_once(stack: Stack, database_url: str) -> None:
    ann, bob, cleo = await stack.users("ann", "bob", "cleo")
    await stack.befriend(ann, bob)
    await stack.ask(cleo, ann)
    tokens = await stack.log_in(ann)
    answer = await stack.delete("/v1/me", ann)
    assert answer.status_code == 202
    assert answer.json().keys() == {"erasure_id"}
    assert_problem(await stack.get("/v1/me", ann), 401, "not_authenticated")
    refresh = {"refresh_token": tokens["refresh_token"]}
    assert_problem(await stack.public.post("/v1/tokens/refresh", json=refresh), 401, "invalid_refresh_token")
    log_in = {"handle": "ann", "password": PASSWORD}
    assert_problem(await stack.public.post("/v1/tokens", json=log_in), 401, "invalid_credentials")
    assert_problem(await stack.get("/v1/users?handle=ann", bob), 404, "user_not_found")
    assert_problem(await stack.delete(f"/v1/friends/{ann.user_id}", bob), 404, "friend_not_found")
    assert await stack.friend_ids(bob) == set()
    assert (await stack.get("/v1/friend-requests?direction=outgoing", cleo)).json()["items"] == []
    assert await tables_that_know(database_url, ann) == set()


async def test_gateways_are_told_in_the_same_transaction(stack: Stack, ear: Ear) -> None:
    ann, bob, cleo = await stack.users("ann", "bob", "cleo")
    await stack.befriend(ann, bob)
    await stack.befriend(cleo, ann)
    before_count = len(await stack.feed())
    await stack.delete("/v1/me", ann)
    *removed, revoked = (await stack.feed())[before_count:]
    ended = {(change.friend_id, change.friends) for change in removed if isinstance(change, FriendshipChanged)}
    assert ended == {(bob.user_id, False), (cleo.user_id, False)}
    assert len(removed) == 2
    assert isinstance(revoked, TokensRevoked)
    assert (revoked.user_id, revoked.valid_from_ms > NOW_MS * 2) == (ann.user_id, True)


async def test_a_wrong_password_deletes_nothing(stack: Stack) -> None:
    ann = await stack.user("ann")
    assert_problem(await stack.delete("/v1/me", ann, {"password": "wrong horse"}), 403, "wrong_password")
    assert (await stack.get("/v1/me", ann)).status_code == 200
    assert (await stack.delete("/v1/me", ann, {"password": PASSWORD})).status_code == 202


async def test_deleting_twice_with_one_token_is_refused(stack: Stack) -> None:
    ann = await stack.user("ann")
    await stack.delete("/v1/me", ann)
    assert_problem(await stack.delete("/v1/me", ann), 401, "not_authenticated")


async def test_the_handle_is_free_and_its_new_owner_inherits_nothing(stack: Stack) -> None:
    ann, bob = await stack.users("ann", "bob")
    await stack.befriend(ann, bob)
    await stack.services.history.write_many([point(ann)])
    await stack.delete("/v1/me", ann)
    other = await stack.user("ann")
    assert other.user_id != ann.user_id
    assert await stack.friend_ids(other) == set()
    assert (await stack.get("/v1/me/history", other)).json()["items"] == []


async def test_cache_and_history_are_empty_and_late_writes_change_nothing(stack: Stack, valkey: ValkeyServer) -> None:
    ann, bob = await stack.users("ann", "bob")
    for user in (ann, bob):
        await stack.services.history.write_many([point(user)])
    await stack.services.cache.write_many([(ann.user_id, RECORD), (bob.user_id, RECORD)])
    await stack.delete("/v1/me", ann)
    assert await history_of(stack, ann) == []
    assert await history_of(stack, bob) == [NOW_MS]
    [late] = await stack.services.cache.write_many([(ann.user_id, RECORD._replace(recorded_at_ms=NOW_MS + 1))])
    assert not late.accepted
    cached = await stack.services.cache.read_many([ann.user_id, bob.user_id])
    assert [found is None for found in cached] == [True, False]
    async with open_stream(valkey.url, 1_000) as stream, open_consumer(valkey.url, "one") as consumer:
        await stream.append_many([point(ann, NOW_MS + 1)])
        [entry] = await eventually(lambda: consumer.read(10))
        # A writer that took no notice of the fence.
        await stack.services.history.write_many([entry.point])
    assert await history_of(stack, ann) == []


async def test_it_is_not_done_before_what_waits_in_the_stream_has_passed(
    stack: Stack, database_url: str, valkey: ValkeyServer
) -> None:
    ann = await stack.user("ann")
    async with open_stream(valkey.url, 1_000) as stream, open_consumer(valkey.url, "one") as consumer:
        await stream.append_many([point(ann)])
        entries = await eventually(lambda: consumer.read(10))
        await stack.delete("/v1/me", ann)
        assert await tables_that_know(database_url, ann) == {"erasures"}
        stack.clock.advance(LEASE_S)
        assert await stack.services.eraser.work() == 1
        assert await tables_that_know(database_url, ann) == {"erasures"}
        await consumer.acknowledge(entries)
        stack.clock.advance(LEASE_S)
        assert await stack.services.eraser.work() == 1
        assert await tables_that_know(database_url, ann) == set()
        assert await stack.services.eraser.work() == 0


async def test_a_store_that_is_away_delays_the_rest_and_another_process_finishes_it(
    stack: Stack, database_url: str, valkey_servers: ValkeyServers
) -> None:
    ann = await stack.user("ann")
    services = stack.services
    await services.history.write_many([point(ann)])
    away = valkey_servers()
    away.kill()
    async with open_cache(away.url, 600) as cache, open_stream(away.url, 1_000) as stream:
        erasure, _ = await services.graph.erasures.delete_account(ann.user_id, None)
        unlucky = Eraser(services.graph, cache, stream, services.history, services.clock)
        assert not await unlucky.attempt(erasure)
    assert unlucky.attempts == {Attempt.FAILED: 1}
    assert await history_of(stack, ann) == [NOW_MS]
    assert await tables_that_know(database_url, ann) == {"erasures"}
    stack.clock.advance(LEASE_S)
    assert await services.eraser.work() == 1
    assert services.eraser.attempts == {Attempt.DONE: 1}
    assert await history_of(stack, ann) == []
    assert await tables_that_know(database_url, ann) == set()


async def test_whoever_took_an_erasure_has_it_alone_for_a_while(stack: Stack) -> None:
    ann = await stack.user("ann")
    await stack.services.graph.erasures.delete_account(ann.user_id, None)
    assert await stack.services.graph.erasures.claim(10) == []
    stack.clock.advance(LEASE_S)
    [erasure] = await stack.services.graph.erasures.claim(10)
    assert erasure.user_id == ann.user_id
    assert await stack.services.graph.erasures.claim(10) == []
