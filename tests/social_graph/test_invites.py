from __future__ import annotations

import asyncio

import pytest

from nearby.errors import Conflict, NotFound
from nearby.model import UserId
from social_graph import invites
from social_graph.graph import SocialGraph
from social_graph.requests import Befriended
from tests.social_graph import raw
from tests.social_graph.clock import NOW_MS, HeldClock
from tests.social_graph.people import ask, befriend, person

HOUR_S = 3_600


async def _people(graph: SocialGraph, *handles: str) -> list[UserId]:
    return [await person(graph, handle) for handle in handles]


async def _not_found(graph: SocialGraph, user_id: UserId, token: str) -> None:
    with pytest.raises(NotFound, match="invite_not_found"):
        await graph.invites.look_up(user_id, token)
    with pytest.raises(NotFound, match="invite_not_found"):
        await graph.invites.accept(user_id, token)


async def test_whoever_holds_the_link_sees_who_invites_and_becomes_a_friend(graph: SocialGraph) -> None:
    ann, bob = await _people(graph, "ann", "bob")
    made = await graph.invites.create(ann, 1, HOUR_S)
    invitation = await graph.invites.look_up(bob, made.token)
    assert (invitation.inviter.user_id, invitation.expires_ms) == (ann, NOW_MS + HOUR_S * 1000)
    befriended = await graph.invites.accept(bob, made.token)
    assert befriended.friend.user_id == ann
    assert await graph.changes.changes_after(0, 10) == befriended.changes
    assert await graph.friendships.friend_ids(ann) == [bob]


async def test_a_token_is_stored_as_a_hash_and_not_shown_again(graph: SocialGraph, database_url: str) -> None:
    (ann,) = await _people(graph, "ann")
    made = await graph.invites.create(ann, 1, HOUR_S)
    assert made.token not in await raw.dump(database_url)
    assert made.token not in repr(made)


async def test_an_invite_is_good_for_so_many_people_and_no_more_even_at_once(graph: SocialGraph) -> None:
    ann, *others = await _people(graph, "ann", "bob", "cat", "dan", "eve")
    made = await graph.invites.create(ann, 2, HOUR_S)
    outcomes = await asyncio.gather(
        *(graph.invites.accept(other, made.token) for other in others), return_exceptions=True
    )
    assert len([outcome for outcome in outcomes if isinstance(outcome, Befriended)]) == 2
    assert len([outcome for outcome in outcomes if isinstance(outcome, NotFound)]) == 2
    assert len(await graph.friendships.friend_ids(ann)) == 2
    with pytest.raises(NotFound):
        await graph.invites.get(ann, made.invite.invite_id)


async def test_an_invite_that_is_over_is_like_one_that_never_was(graph: SocialGraph, clock: HeldClock) -> None:
    ann, bob = await _people(graph, "ann", "bob")
    expired, revoked = await graph.invites.create(ann, 1, 60), await graph.invites.create(ann, 1, HOUR_S)
    await graph.invites.revoke(ann, revoked.invite.invite_id)
    clock.advance(60)
    for token in (expired.token, revoked.token, "made-up"):
        await _not_found(graph, bob, token)
    for over in (expired, revoked):
        with pytest.raises(NotFound):
            await graph.invites.revoke(ann, over.invite.invite_id)
    assert await graph.invites.delete_expired() == 1
    assert await graph.invites.delete_expired() == 0


@pytest.mark.parametrize("blocker", [0, 1])
async def test_an_invite_between_people_of_whom_one_blocks_the_other_is_not_found(
    graph: SocialGraph, blocker: int
) -> None:
    people = await _people(graph, "ann", "bob")
    made = await graph.invites.create(people[0], 1, HOUR_S)
    await graph.blocks.block(people[blocker], people[1 - blocker])
    await _not_found(graph, people[1], made.token)


async def test_an_invite_that_makes_no_sense_takes_no_use(graph: SocialGraph) -> None:
    ann, bob = await _people(graph, "ann", "bob")
    made = await graph.invites.create(ann, 1, HOUR_S)
    await befriend(graph, ann, bob)
    with pytest.raises(Conflict, match="already_friends"):
        await graph.invites.accept(bob, made.token)
    with pytest.raises(Conflict, match="request_to_self"):
        await graph.invites.accept(ann, made.token)
    assert (await graph.invites.get(ann, made.invite.invite_id)).uses_left == 1


async def test_an_accepted_invite_answers_pending_requests_too(graph: SocialGraph) -> None:
    ann, bob = await _people(graph, "ann", "bob")
    request_id = await ask(graph, bob, ann)
    made = await graph.invites.create(ann, 1, HOUR_S)
    await graph.invites.accept(bob, made.token)
    with pytest.raises(NotFound):
        await graph.requests.accept(ann, request_id)


async def test_invites_are_listed_newest_first_and_are_their_makers_own(graph: SocialGraph, clock: HeldClock) -> None:
    ann, bob = await _people(graph, "ann", "bob")
    made = []
    for _ in range(3):
        made.append((await graph.invites.create(ann, 1, HOUR_S)).invite)
        clock.advance(1)
    page = await graph.invites.page(ann, 2)
    rest = await graph.invites.page(ann, 2, page.next_after)
    assert list(page.invites + rest.invites) == made[::-1]
    assert rest.next_after is None
    assert (await graph.invites.page(bob, 2)).invites == ()
    for attempt in (graph.invites.get, graph.invites.revoke):
        with pytest.raises(NotFound):
            await attempt(bob, made[0].invite_id)


async def test_open_invites_are_limited(graph: SocialGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invites, "MAX_INVITES", 1)
    (ann,) = await _people(graph, "ann")
    made = await graph.invites.create(ann, 1, HOUR_S)
    with pytest.raises(Conflict, match="too_many_invites"):
        await graph.invites.create(ann, 1, HOUR_S)
    await graph.invites.revoke(ann, made.invite.invite_id)
    await graph.invites.create(ann, 1, HOUR_S)
