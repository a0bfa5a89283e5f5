"""Shortcuts to users and friendships, through the public methods."""

from __future__ import annotations

from nearby.model import UserId
from social_graph.graph import SocialGraph
from social_graph.requests import Befriended, FriendRequest

PASSWORD = "correct horse battery"


async def person(graph: SocialGraph, handle: str) -> UserId:
    return (await graph.credentials.sign_up(handle, PASSWORD, handle.title())).user_id


async def ask(graph: SocialGraph, sender: UserId, addressee: UserId) -> str:
    outcome = await graph.requests.send(sender, addressee)
    assert isinstance(outcome, FriendRequest)
    return outcome.request_id


async def befriend(graph: SocialGraph, one: UserId, other: UserId) -> Befriended:
    return await graph.requests.accept(other, await ask(graph, one, other))
