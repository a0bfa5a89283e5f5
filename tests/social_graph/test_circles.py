from __future__ import annotations

import uuid

import pytest

from nearby.changes import FriendshipChanged
from nearby.errors import NotFound
from nearby.model import UserId
from nearby.sharing import CircleRule, Tier, TierPlan
from social_graph.graph import SocialGraph
from tests.social_graph.people import befriend, person

APPROXIMATE = CircleRule(Tier.APPROXIMATE)


async def test_nobody_makes_no_circle(graph: SocialGraph) -> None:
    with pytest.raises(NotFound, match="user_not_found"):
        await graph.circles.create(UserId(str(uuid.uuid4())), "Work", APPROXIMATE)


async def test_a_change_of_a_circle_is_announced_for_each_member_in_the_order_of_the_feed(graph: SocialGraph) -> None:
    ann = await person(graph, "ann")
    circle = await graph.circles.create(ann, "Work", CircleRule(Tier.EXACT))
    members = [await person(graph, name) for name in ("bob", "cleo", "dan")]
    for member in members:
        await befriend(graph, ann, member)
        await graph.circles.add(ann, circle.circle_id, member)
    before = await graph.changes.latest_sequence()
    _, changes = await graph.circles.change(ann, circle.circle_id, "Work", APPROXIMATE)
    assert [change.sequence for change in changes] == [before + 1, before + 2, before + 3]
    assert await graph.changes.changes_after(before, 10) == changes
    told = {change.friend_id: change.user_shows for change in changes if isinstance(change, FriendshipChanged)}
    assert told == dict.fromkeys(members, TierPlan(Tier.APPROXIMATE))
