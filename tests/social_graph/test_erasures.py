"""What the user database itself does when an account is deleted: nothing in any table may go on naming it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import String

from nearby.changes import Change, FriendshipChanged, TokensRevoked
from nearby.errors import Conflict, NotAllowed, NotFound
from nearby.model import UserId
from nearby.sharing import CircleRule, Tier
from social_graph.erasures import MAX_WAITING_RANGES, Erasure, Erasures
from social_graph.graph import SocialGraph, open_social_graph
from social_graph.rights_schema import metadata
from tests.social_graph import raw
from tests.social_graph.clock import HeldClock
from tests.social_graph.conftest import REFRESH_LIFETIME_S
from tests.social_graph.people import PASSWORD, ask, befriend, person

# Columns as long as an id in which the ids of users do not stand.
NOT_OF_USERS = {
    ("friend_requests", "id"),
    ("refresh_tokens", "family"),
    ("invites", "id"),
    ("erasures", "id"),
    ("exports", "id"),
    ("export_parts", "export_id"),
    ("circles", "id"),
    ("circle_members", "circle_id"),
}
# Tables without such a column, and why nobody can be found in them.
OF_NOBODY = {"feed_head": "numbers", "export_parts": "hang on an export, which hangs on its user"}
OUTLIVING = {("changes", "payload"), ("erasures", "user_id")}
"""What is left after the deletion: both end by themselves."""


def _columns_of_users() -> Iterator[tuple[str, str]]:
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, String) and column.type.length == 36:
                yield table.name, column.name


async def _live_a_full_life(graph: SocialGraph, database_url: str) -> UserId:
    """Let ann do everything of which a row tells, in both directions where there are two."""
    ann, bob, cat, dan, eve = [await person(graph, handle) for handle in ("ann", "bob", "cat", "dan", "eve")]
    assert await graph.credentials.log_in("ann", PASSWORD)
    await raw.execute(database_url, f"INSERT INTO external_identities VALUES ('https://issuer', 'ann', '{ann}')")
    await befriend(graph, ann, bob)
    await ask(graph, ann, cat)
    await ask(graph, dan, ann)
    await graph.blocks.block(ann, eve)
    await graph.blocks.block(eve, ann)
    await graph.invites.create(ann, 1, 60)
    await graph.idempotency_keys.claim(ann, "key", "fingerprint")
    for owner, member in ((ann, bob), (bob, ann)):
        circle = await graph.circles.create(owner, "near ones", CircleRule(Tier.APPROXIMATE))
        await graph.circles.add(owner, circle.circle_id, member)
    await graph.erasures.set_retention(ann, 60)
    await graph.history_grants.give(ann, bob, None)
    await graph.history_grants.give(bob, ann, None)
    await graph.erasures.delete_range(ann, 0, 1)
    await graph.exports.request(ann)
    export = await graph.exports.claim()
    assert export is not None
    assert await graph.exports.add_part(export, 0, b"part", 1, 1)
    return ann


async def test_no_table_names_somebody_whose_account_is_deleted(
    graph: SocialGraph, clock: HeldClock, database_url: str
) -> None:
    ann = await _live_a_full_life(graph, database_url)
    expected = set(_columns_of_users()) - NOT_OF_USERS | {("changes", "payload")}
    assert await raw.mentions(database_url, ann) == expected, "let the life be full, or say that no user stands there"
    assert {table for table, _ in expected} | set(OF_NOBODY) == set(metadata.tables), (
        "a table of which nothing is known"
    )
    erasure, _ = await graph.erasures.delete_account(ann, PASSWORD)
    assert await raw.mentions(database_url, ann) == OUTLIVING
    assert await raw.scalar(database_url, "SELECT count(*) FROM export_parts") == 0
    await graph.erasures.finish(erasure)
    clock.advance(60)
    await graph.changes.prune(clock())
    assert await raw.mentions(database_url, ann) == set()


async def test_every_friend_is_told_in_one_transaction_and_the_end_of_all_tokens_last(graph: SocialGraph) -> None:
    ann, bob, cat = [await person(graph, handle) for handle in ("ann", "bob", "cat")]
    await befriend(graph, ann, bob)
    await befriend(graph, cat, ann)
    await graph.sharing.pause(cat, None)
    before = await graph.changes.latest_sequence()
    _, changes = await graph.erasures.delete_account(ann, None)
    assert await graph.changes.changes_after(before, 10) == changes
    *ended, revoked = changes
    assert {(change.friend_id, change.friends, change.friend_sharing) for change in _friendships(ended)} == {
        (bob, False, True),
        (cat, False, False),
    }
    assert isinstance(revoked, TokensRevoked)
    assert [change.sequence for change in changes] == [before + 1, before + 2, before + 3]


def _friendships(changes: Sequence[Change]) -> list[FriendshipChanged]:
    assert all(isinstance(change, FriendshipChanged) for change in changes)
    return [change for change in changes if isinstance(change, FriendshipChanged)]


async def test_two_friends_who_delete_their_accounts_at_once_are_both_gone(
    graph: SocialGraph, database_url: str, clock: HeldClock
) -> None:
    ann, bob = await person(graph, "ann"), await person(graph, "bob")
    await befriend(graph, ann, bob)
    async with open_social_graph(database_url, clock, REFRESH_LIFETIME_S) as other_process:
        await asyncio.gather(graph.erasures.delete_account(ann, None), other_process.erasures.delete_account(bob, None))
    for user_id in (ann, bob):
        assert await raw.mentions(database_url, user_id) <= OUTLIVING
    ended = [change for change in await graph.changes.changes_after(0, 10) if isinstance(change, FriendshipChanged)]
    assert [change.friends for change in ended] == [True, False], "who comes second has no friend left to tell"


async def test_a_friendship_that_begins_while_its_end_is_prepared_ends_too(
    graph: SocialGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await person(graph, "ann"), await person(graph, "bob")
    database = graph.erasures._database
    rows, interrupted = database.rows, False

    async def befriends_after_the_first_look(query: object) -> object:
        nonlocal interrupted
        found = await rows(query)  # type: ignore[arg-type]
        if not interrupted:
            interrupted = True
            await befriend(graph, ann, bob)
        return found

    monkeypatch.setattr(database, "rows", befriends_after_the_first_look)
    _, changes = await graph.erasures.delete_account(ann, None)
    assert [change.friend_id for change in _friendships(changes[:-1])] == [bob]
    assert await graph.friendships.friend_ids(bob) == []


async def test_what_refers_to_somebody_deleted_meanwhile_is_not_found(graph: SocialGraph, database_url: str) -> None:
    ann, bob = await person(graph, "ann"), await person(graph, "bob")
    await graph.erasures.delete_account(ann, None)
    for refers in (
        graph.blocks.block(ann, bob),
        graph.invites.create(ann, 1, 60),
        graph.idempotency_keys.claim(ann, "key", "fingerprint"),
        graph.exports.request(ann),
        graph.erasures.set_retention(ann, 60),
        graph.history_grants.give(ann, bob, None),
        graph.sharing.pause(ann, None),
        graph.erasures.delete_account(ann, None),
    ):
        with pytest.raises(NotFound):
            await refers
    assert await raw.mentions(database_url, ann) <= OUTLIVING


async def test_of_several_processes_each_takes_other_erasures(
    graph: SocialGraph, database_url: str, clock: HeldClock
) -> None:
    ann = await person(graph, "ann")
    waiting = [await graph.erasures.delete_range(ann, number, number + 1) for number in range(MAX_WAITING_RANGES)]
    with pytest.raises(Conflict, match="too_many_deletions"):
        await graph.erasures.delete_range(ann, 0, 1)
    clock.advance(3_600)

    async def take_all(erasures: Erasures) -> list[Erasure]:
        taken: list[Erasure] = []
        while more := await erasures.claim(3):
            taken += more
        return taken

    async with open_social_graph(database_url, clock, REFRESH_LIFETIME_S) as other:
        taken = await asyncio.gather(*(take_all(each.erasures) for each in (graph, other)))
        # Rows that one was taking were passed over by the other, who may have ended before that.
        taken.append(await take_all(graph.erasures))
    ids = [erasure.erasure_id for each in taken for erasure in each]
    assert sorted(ids) == sorted(erasure.erasure_id for erasure in waiting)


async def test_of_several_processes_one_begins_and_one_prepares_an_export(
    graph: SocialGraph, database_url: str, clock: HeldClock
) -> None:
    ann = await person(graph, "ann")
    async with open_social_graph(database_url, clock, REFRESH_LIFETIME_S) as other:
        begun = await asyncio.gather(*(each.exports.request(ann) for each in (graph, other) * 3))
        assert len({export.export_id for export in begun}) == 1
        claimed = await asyncio.gather(*(each.exports.claim() for each in (graph, other) * 3))
    assert len([export for export in claimed if export is not None]) == 1


@pytest.mark.parametrize("ending", ["removal", "block", "block by the other"])
async def test_a_grant_ends_with_the_friendship_and_does_not_come_back_with_it(
    graph: SocialGraph, database_url: str, ending: str
) -> None:
    ann, bob = await person(graph, "ann"), await person(graph, "bob")
    await befriend(graph, ann, bob)
    await graph.history_grants.give(ann, bob, None)
    assert await graph.history_grants.use(bob, ann)
    match ending:
        case "removal":
            await graph.friendships.remove(ann, bob)
        case "block":
            await graph.blocks.block(ann, bob)
            await graph.blocks.unblock(ann, bob)
        case _:
            await graph.blocks.block(bob, ann)
            await graph.blocks.unblock(bob, ann)
    assert await raw.scalar(database_url, "SELECT count(*) FROM history_grants") == 0
    await befriend(graph, ann, bob)
    with pytest.raises(NotFound):
        await graph.history_grants.use(bob, ann)


async def test_who_logs_in_outside_has_no_password_to_show_and_comes_back_as_somebody_else(
    graph: SocialGraph, clock: HeldClock, database_url: str
) -> None:
    before = await graph.external_identities.log_in("https://issuer", "ann", "Ann", clock())
    assert before is not None
    with pytest.raises(NotAllowed, match="wrong_password"):
        await graph.erasures.delete_account(before.user_id, "-")
    await graph.erasures.delete_account(before.user_id, None)
    assert await raw.mentions(database_url, before.user_id) == OUTLIVING
    after = await graph.external_identities.log_in("https://issuer", "ann", "Ann", clock())
    assert after is not None
    assert after.user_id != before.user_id
