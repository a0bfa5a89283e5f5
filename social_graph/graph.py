"""The social graph put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nearby.ports import Clock
from social_graph.blocks import Blocks
from social_graph.changes import ChangeFeed
from social_graph.circles import Circles
from social_graph.credentials import Credentials
from social_graph.database import POOL_SIZE, TIMEOUT_S, open_database
from social_graph.erasures import Erasures
from social_graph.exports import Exports
from social_graph.external_identities import ExternalIdentities
from social_graph.friend_lists import FriendLists
from social_graph.friendships import Friendships
from social_graph.history_grants import HistoryGrants
from social_graph.idempotency import IdempotencyKeys
from social_graph.invites import Invites
from social_graph.limits import Limits
from social_graph.passwords import Passwords
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
    blocks: Blocks
    invites: Invites
    idempotency_keys: IdempotencyKeys
    external_identities: ExternalIdentities
    erasures: Erasures
    exports: Exports
    history_grants: HistoryGrants


@asynccontextmanager
async def open_social_graph(
    url: str,
    clock: Clock,
    refresh_lifetime_s: int,
    *,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    pool_size: int = POOL_SIZE,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[SocialGraph]:
    """Open the database at ``url``, which ``python -m social_graph`` has brought to head.

    ``clock`` gives Unix milliseconds; a refresh token is good for ``refresh_lifetime_s`` seconds. ``pool_size`` and
    ``timeout_s`` are those of :func:`social_graph.database.open_database`.
    """
    passwords = Passwords()
    await passwords.prepare()
    async with open_database(url, pool_size=pool_size, timeout_s=timeout_s) as database:
        credentials = Credentials(database, clock, passwords, refresh_lifetime_s)
        graph = SocialGraph(
            Users(database),
            credentials,
            RefreshTokens(database, clock, refresh_lifetime_s),
            Friendships(database, clock),
            FriendRequests(database, clock, limits),
            SharingSwitches(database, clock),
            SharingRules(database, clock),
            Circles(database, clock),
            Viewers(database, clock),
            ChangeFeed(database),
            FriendLists(database, clock),
            Blocks(database, clock),
            Invites(database, clock, limits),
            IdempotencyKeys(database, clock, limits.idempotency_lifetime_s),
            ExternalIdentities(database, clock, refresh_lifetime_s),
            Erasures(database, clock, passwords),
            Exports(database, clock),
            HistoryGrants(database, clock),
        )
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(credentials.run(), name="credentials")
            try:
                yield graph
            finally:
                answering.cancel()
