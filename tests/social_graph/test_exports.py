"""What the user database tells somebody who asks for everything that it holds on them."""

from __future__ import annotations

import json

from nearby.sharing import CircleRule, Tier
from social_graph.graph import SocialGraph
from tests.social_graph.people import befriend, person


async def test_an_export_does_not_tell_what_friends_have_decided_about_me(graph: SocialGraph) -> None:
    """Somebody whom a friend hides from must not learn so (protocol §3)."""
    ann, ben = await person(graph, "ann"), await person(graph, "ben")
    await befriend(graph, ann, ben)
    before = json.dumps(await graph.exports.holdings(ann))
    circle = await graph.circles.create(ben, "not so near", CircleRule(Tier.APPROXIMATE))
    await graph.circles.add(ben, circle.circle_id, ann)
    await graph.rules.set(ben, ann, Tier.OFF, None, openly=False)
    assert json.dumps(await graph.exports.holdings(ann)) == before


async def test_an_export_tells_what_i_have_decided(graph: SocialGraph) -> None:
    ann, ben = await person(graph, "ann"), await person(graph, "ben")
    await befriend(graph, ann, ben)
    circle = await graph.circles.create(ann, "near ones", CircleRule(Tier.APPROXIMATE))
    await graph.circles.add(ann, circle.circle_id, ben)
    await graph.rules.set(ann, ben, Tier.OFF, None, openly=False)
    held = await graph.exports.holdings(ann)
    assert [(row["friend_id"], row["sharing"]) for row in held["friendships"]] == [(ben, "off")]
    assert [row["friend_id"] for row in held["circle_members"]] == [ben]
    assert [row["name"] for row in held["circles"]] == ["near ones"]
