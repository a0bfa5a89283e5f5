from __future__ import annotations

from nearby.changes import Change, FriendshipChanged, SharingChanged, TokensRevoked
from pubsub_router.router import Router
from tests.api.stack import Ear, Stack, User
from tests.support.eventually import eventually


async def _hears(ear: Ear, change: Change, *users: User) -> None:
    expected = {(user.user_id, change) for user in users}
    await eventually(lambda: set(ear.heard) == expected and len(ear.heard) == len(users))
    ear.heard.clear()


async def test_every_change_is_published_to_those_it_concerns_and_to_nobody_else(
    stack: Stack, router: Router, ear: Ear
) -> None:
    ann, bob, cat = await stack.users("ann", "bob", "cat")
    await ear.listen(router, [ann, bob, cat])
    await stack.befriend(ann, bob)
    await _hears(ear, FriendshipChanged(1, bob.user_id, ann.user_id, True, True, True), ann, bob)
    await stack.put("/v1/me/sharing", ann, {"state": "paused"})
    await _hears(ear, SharingChanged(2, ann.user_id, False), ann, bob)
    await stack.put("/v1/me/sharing", ann, {"state": "on"})
    await _hears(ear, SharingChanged(3, ann.user_id, True), ann, bob)
    await stack.delete(f"/v1/friends/{bob.user_id}", ann)
    await _hears(ear, FriendshipChanged(4, ann.user_id, bob.user_id, False, True, True), ann, bob)
    await stack.ask(bob, cat)
    await stack.ask(cat, ann)
    await stack.post("/v1/friend-requests", cat, {"handle": "bob"})
    await _hears(ear, FriendshipChanged(5, cat.user_id, bob.user_id, True, True, True), bob, cat)
    await stack.delete("/v1/tokens", ann)
    await _hears(ear, TokensRevoked(6, ann.user_id, stack.clock() + 1), ann)
    await stack.patch("/v1/me", bob, {"password": "another password"})
    await _hears(ear, TokensRevoked(7, bob.user_id, stack.clock() + 1), bob)
    assert [change.sequence for change in await stack.feed()] == [1, 2, 3, 4, 5, 6, 7]
