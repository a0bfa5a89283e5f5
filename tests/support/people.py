"""People of a test: signed up over REST, befriended by request and acceptance, connected by the Python client."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from nearby.codecs import CODECS, Codec
from nearby.messages import FriendEntry, GoneEntry, Snapshot, Update
from nearby_client import Account, Event, NearbyApi, NearbyClient
from nearby_client.rest import FriendRequest
from tests.support.eventually import eventually

PASSWORD = "correct horse battery"


class Person:
    """Somebody with an account. ``events`` is everything their client was told, in order."""

    def __init__(self, user_id: str, account: Account) -> None:
        self.user_id = user_id
        self.account = account
        self.events: list[Event] = []
        self.client: NearbyClient

    @property
    def map(self) -> dict[str, int]:
        """The distances of the friends now on the map, metres, by user id."""
        return {user_id: entry.distance_m for user_id, entry in self.client.friends.items()}

    @property
    def entries(self) -> list[FriendEntry]:
        """Every friend entry ever received."""
        return [entry for event in self.events if isinstance(event, Snapshot | Update) for entry in event.friends]

    @property
    def gone(self) -> list[GoneEntry]:
        """Everybody who ever left the map, in order."""
        return [entry for event in self.events if isinstance(event, Update) for entry in event.gone]

    @asynccontextmanager
    async def online(
        self, url: str | None = None, codecs: Sequence[Codec] = tuple(CODECS.values())
    ) -> AsyncIterator[NearbyClient]:
        """Connect, at the gateway ``url`` or one of the API's choice, and wait for the welcome."""
        async with NearbyClient(
            self.account.api, self.account.token, url=url, codecs=codecs, on_event=self.events.append
        ) as self.client:
            await eventually(lambda: self.client.connected, within_s=10)
            yield self.client


async def sign_up(api: NearbyApi) -> Person:
    handle = f"t_{uuid.uuid4().hex[:20]}"
    person = await api.sign_up(handle, PASSWORD, handle)
    return Person(person.user_id, await api.log_in(handle, PASSWORD))


async def befriend(one: Person, other: Person) -> None:
    request = await one.account.friend_request(user_id=other.user_id)
    assert isinstance(request, FriendRequest)
    await other.account.accept(request.request_id)
