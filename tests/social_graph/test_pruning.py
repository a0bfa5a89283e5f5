from __future__ import annotations

from social_graph.graph import SocialGraph
from social_graph.pruning import FEED_KEPT_S
from tests.social_graph.clock import HeldClock
from tests.social_graph.conftest import REFRESH_LIFETIME_S
from tests.social_graph.people import PASSWORD, befriend, person


async def test_old_changes_are_forgotten_but_for_the_newest(graph: SocialGraph, clock: HeldClock) -> None:
    ann, bob, cleo = [await person(graph, handle) for handle in ("ann", "bob", "cleo")]
    await befriend(graph, ann, bob)
    await befriend(graph, bob, cleo)
    clock.advance(FEED_KEPT_S)
    await graph.friendships.remove(ann, bob)
    assert await graph.pruning.prune() == 0
    clock.advance(1)
    assert await graph.pruning.prune() == 2
    assert [change.sequence for change in await graph.changes.changes_after(0, 10)] == [3]
    clock.advance(2 * FEED_KEPT_S)
    assert await graph.pruning.prune() == 0
    assert await graph.changes.latest_sequence() == 3


async def test_expired_refresh_tokens_are_forgotten(graph: SocialGraph, clock: HeldClock) -> None:
    await person(graph, "ann")
    assert await graph.credentials.log_in("ann", PASSWORD)
    assert await graph.pruning.prune() == 0
    clock.advance(REFRESH_LIFETIME_S)
    assert await graph.pruning.prune() == 1
