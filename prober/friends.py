"""The synthetic friends: people like all others to the API, whose names and password are the prober's."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from nearby_client import Account, ApiError, NearbyApi

_LIVE_ONLY = "live_only"


@dataclass(frozen=True, slots=True)
class Friend:
    """One of them, logged in."""

    user_id: str
    account: Account


async def enrol(api: NearbyApi, prefix: str, password: str, count: int) -> list[Friend]:
    """Return ``count`` people, each of whom is every other's friend; whoever is missing is signed up.

    None of their history is kept. May be called again, and after it failed halfway.

    Raises:
        ApiError: the API refused something; too many sign-ups, for instance.
        ApiUnreachable: the API did not answer.
    """
    friends = [await _logged_in(api, f"{prefix}_{number}", password) for number in range(count)]
    known = [{friend.user_id for friend in await each.account.friends()} for each in friends]
    for one, other in combinations(range(count), 2):
        if friends[other].user_id not in known[one]:
            # Whichever is second crosses the first, and makes the friendship.
            await friends[one].account.friend_request(user_id=friends[other].user_id)
            await friends[other].account.friend_request(user_id=friends[one].user_id)
    return friends


async def _logged_in(api: NearbyApi, handle: str, password: str) -> Friend:
    try:
        account = await api.log_in(handle, password)
    except ApiError as error:
        if error.status != 401:
            raise
        await api.sign_up(handle, password, "nearby prober")
        account = await api.log_in(handle, password)
    await account.keep_history(_LIVE_ONLY)
    return Friend((await account.me()).user_id, account)
