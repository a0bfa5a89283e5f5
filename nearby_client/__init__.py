"""The Python client of ``nearby``: a connection that lasts, the map of friends, and the REST calls an app needs.

::

    async with NearbyApi("http://127.0.0.1:8080") as api:
        account = await api.log_in("ada", "correct horse battery")
        async with NearbyClient(api, account.token) as client:
            client.report(41.88, -87.63)
            async for event in client.events():
                print(client.friends)
"""

from nearby.codecs import JSON, MESSAGE_PACK
from nearby_client.client import NearbyClient, TokenProvider
from nearby_client.errors import ApiError, ApiUnreachable, SessionEnded
from nearby_client.events import Connected, Disconnected, Event
from nearby_client.rest import (
    Account,
    Friend,
    FriendRequest,
    IncomingRequest,
    InForce,
    Invite,
    NearbyApi,
    Person,
    Tokens,
    Viewer,
)

__all__ = [
    "JSON",
    "MESSAGE_PACK",
    "Account",
    "ApiError",
    "ApiUnreachable",
    "Connected",
    "Disconnected",
    "Event",
    "Friend",
    "FriendRequest",
    "InForce",
    "IncomingRequest",
    "Invite",
    "NearbyApi",
    "NearbyClient",
    "Person",
    "SessionEnded",
    "TokenProvider",
    "Tokens",
    "Viewer",
]
