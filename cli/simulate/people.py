"""The crowd's people: signed up, logged in and made friends over REST, as anybody would be."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cli.simulate.graph import Edge
from nearby_client import Account, ApiError, ApiUnreachable, NearbyApi
from nearby_client.backoff import Backoff

T = TypeVar("T")
R = TypeVar("R")

LOGINS_AT_ONCE = 4
"""Passwords are hashed to be slow: more at once would only wait for each other, and run into time-outs."""
REQUESTS_AT_ONCE = 16
ATTEMPTS = 8
_ALREADY = ("request_exists", "already_friends")
"""Answers to a call that had succeeded although its answer was lost."""

Advance = Callable[[], None]
"""Called for each step done, to move a progress bar."""


class SimulationFailed(Exception):
    """The simulation cannot begin or go on; the message is for people."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of the crowd."""

    number: int
    user_id: str
    account: Account


async def sign_up(api: NearbyApi, count: int, advance: Advance) -> list[Person]:
    """Return ``count`` new users, logged in, in the order of their numbers.

    Raises:
        SimulationFailed: the API refuses, or does not answer for long.
    """
    run_id = secrets.token_hex(5)

    async def one(number: int) -> Person:
        handle, password = f"sim_{run_id}_{number}", secrets.token_urlsafe(16)
        created = await _insist(lambda: api.sign_up(handle, password, f"Walker {number}"), done=["handle_taken"])
        account = await _get(lambda: api.log_in(handle, password))
        user_id = (await _get(account.me)).user_id if created is None else created.user_id
        advance()
        return Person(number, user_id, account)

    return await each(LOGINS_AT_ONCE, range(count), one)


async def befriend(people: Sequence[Person], edges: Sequence[Edge], advance: Advance) -> None:
    """Make friends of the people at both ends of each edge, by two requests that cross.

    Crossing takes as many calls as request and accept, and needs no request's id.

    Raises:
        SimulationFailed: the API refuses, or does not answer for long.
    """

    async def one(edge: Edge) -> None:
        a, b = people[edge[0]], people[edge[1]]
        await _insist(lambda: a.account.friend_request(user_id=b.user_id), done=_ALREADY)
        await _insist(lambda: b.account.friend_request(user_id=a.user_id), done=_ALREADY)
        advance()

    await each(REQUESTS_AT_ONCE, edges, one)


async def each(limit: int, items: Iterable[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
    """Return the results of ``work`` on each item in their order, at most ``limit`` at once.

    The first error ends the rest and is raised as it is.
    """
    waiting = list(enumerate(items))[::-1]
    results: dict[int, R] = {}

    async def worker() -> None:
        while waiting:
            index, item = waiting.pop()
            results[index] = await work(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(limit):
                tasks.create_task(worker())
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return [results[index] for index in range(len(results))]


async def _insist(call: Callable[[], Awaitable[T]], *, done: Sequence[str] = ()) -> T | None:
    """Make a call again while the API is busy; ``None`` if it refuses with a code that means it was done before."""
    backoff = Backoff(random.SystemRandom())
    for _ in range(ATTEMPTS):
        try:
            return await call()
        except ApiError as error:
            if error.code in done:
                return None
            if error.status not in (429, 503):
                raise SimulationFailed(f"the API refused: {error}") from error
            problem: Exception = error
        except ApiUnreachable as error:
            problem = error
        await asyncio.sleep(backoff.next_s())
    raise SimulationFailed(f"the API did not do it in {ATTEMPTS} attempts: {problem}") from problem


async def _get(call: Callable[[], Awaitable[T]]) -> T:
    answer = await _insist(call)
    assert answer is not None
    return answer
