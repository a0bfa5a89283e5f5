"""The social graph put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nearby.ports import Clock
from social_graph.changes import ChangeFeed
from social_graph.circles import Circles
from social_graph.credentials import Credentials
from social_graph.database import open_database
from social_graph.erasures import Erasures
from social_graph.exports import Exports
from social_graph.friend_lists import FriendLists
from social_graph.friendships import Friendships
from social_graph.history_grants import HistoryGrants
from social_graph.passwords import Passwords
from social_graph.pruning import Pruning
from social_graph.refresh_tokens import RefreshTokens
from social_graph.requests import FriendRequests
from social_graph.rules import SharingRules
from social_graph.sharing import SharingSwitches
from social_graph.users import Users
from social_graph.viewers import Viewers


@dataclass(frozen=True, slots=True)
class SocialGraph:
    """One database, by its nouns. Every method raises StoreUnavailable (``social_graph``) when the database fails."""

    users: Users
    credentials: Credentials
    refresh_tokens: RefreshTokens
    friendships: Friendships
    requests: FriendRequests
    sharing: SharingSwitches
    rules: SharingRules
    circles: Circles
    viewers: Viewers
    changes: ChangeFeed
    friend_lists: FriendLists
    erasures: Erasures
    exports: Exports
    history_grants: HistoryGrants
    pruning: Pruning


@asynccontextmanager
async def open_social_graph(url: str, clock: Clock, refresh_lifetime_s: int) -> AsyncIterator[SocialGraph]:
    """Open the database at ``url`` (``sqlite:///FILE``), which ``python -m social_graph`` has brought to head.

    ``clock`` gives Unix milliseconds; a refresh token is good for ``refresh_lifetime_s`` seconds.
    """
    passwords = Passwords()
    await passwords.prepare()
    async with open_database(url) as database:
        yield SocialGraph(
            Users(database),
            Credentials(database, clock, passwords, refresh_lifetime_s),
            RefreshTokens(database, clock, refresh_lifetime_s),
            Friendships(database, clock),
            FriendRequests(database, clock),
            SharingSwitches(database, clock),
            SharingRules(database, clock),
            Circles(database, clock),
            Viewers(database, clock),
            ChangeFeed(database),
            FriendLists(database, clock),
            Erasures(database, clock, passwords),
            Exports(database, clock),
            HistoryGrants(database, clock),
            Pruning(database, clock),
        )
