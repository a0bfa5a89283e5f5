"""The phones of one process: as many as the scenario wants, on one event loop."""

from __future__ import annotations

import asyncio
import random
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic

import msgspec

from loadtest.dense.phone import NoGateway, Phone
from loadtest.dense.places import Sources
from loadtest.dense.rows import RowSet
from loadtest.journal import Journal, silence_s
from loadtest.person import INVITE_USES, Person
from loadtest.scenarios import Schedule
from loadtest.screens import Screens
from nearby.codecs import CODECS
from nearby_client import ApiError, ApiUnreachable, NearbyApi

_TICK_S = 0.1
_CALLS_AT_ONCE = 16
"""A pool of HTTP connections looks through everybody who waits for one, each time."""
_GOODBYE_S = 5.0


class _Gateway(msgspec.Struct):
    url: str


class _Invite(msgspec.Struct):
    token: str


class Fleet:
    """Everybody of this process and their phones; also what those share (:class:`loadtest.dense.phone.Network`).

    Args:
        people: Who may have a phone, in this order.
        options: Those of the command line.
        schedule: How many have one, and when.
        spawn_rate: How many come or go in a second.
    """

    def __init__(
        self, people: list[Person], options: Namespace, schedule: Schedule, spawn_rate: float, api: NearbyApi
    ) -> None:
        self.codec = CODECS[f"nearby.v1.{options.codec}"]
        self.silence_s = silence_s(options)
        self.frames = 0
        self.sockets = 0
        self.rows = RowSet()
        self._people = people
        self._options = options
        self._schedule = schedule
        self._spawn_rate = spawn_rate
        self._api = api
        self._calling = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._screens = Screens()
        self._sources = Sources(options.sources)
        self._rng = random.Random()  # noqa: S311 - where phones walk and when they come back is no secret
        self._phones: list[Phone] = []
        self._leaving: set[Phone] = set()
        self._all_off = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Follow the schedule to its end; cancelled, end at once. All phones are put away afterwards.

        Raises:
            Exception: whatever went wrong in the load test itself.
        """
        try:
            await self._follow()
        finally:
            self._change(-len(self._phones))
            await self._say_goodbye()

    async def make_a_celebrity(self) -> None:
        """Make the first person everybody's friend."""
        first, *others = self._people
        async with asyncio.TaskGroup() as tasks:
            for start in range(0, len(others), INVITE_USES):
                tasks.create_task(self._befriend(first, others[start : start + INVITE_USES]))

    # ----------------------------------------------------------------------------------- for the phones

    async def gateway(self, token: str) -> str:
        """Return the URL that was named for all, or ask the API for one."""
        if self._options.gateway:
            return str(self._options.gateway)
        answer = await self._call("GET", "/v1/gateway", token)
        if answer is None:
            raise NoGateway
        return msgspec.json.decode(answer, type=_Gateway).url

    def source(self, url: str) -> str | None:
        """Return the next address to connect to ``url`` from."""
        return self._sources.towards(url)

    def count(self, kind: str, name: str, took_s: float, error: str | None) -> None:
        """Count one thing."""
        self.rows.count(kind, name, took_s, error)

    def is_off(self, phone: Phone) -> None:
        """Nothing is left of a phone that was put away."""
        self._leaving.discard(phone)
        if not self._leaving:
            self._all_off.set()

    def look_at(self, ended: asyncio.Task[None]) -> None:
        """Fail for what a task ended with, if it is an error."""
        if not ended.cancelled() and (error := ended.exception()) is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End the run; the first error counts."""
        if not self._failed.done():
            self._failed.set_exception(error)

    # --------------------------------------------------------------------------------------- schedule

    async def _follow(self) -> None:
        began_s = changed_s = monotonic()
        while (wanted := self._schedule.people(monotonic() - began_s)) is not None:
            if self._schedule.storm_breaks(monotonic() - began_s):
                for phone in self._phones:
                    phone.drop()
            may_change = int((monotonic() - changed_s) * self._spawn_rate)
            missing = wanted - len(self._phones)
            if missing == 0:
                changed_s = monotonic()
            elif may_change:
                changed_s += may_change / self._spawn_rate
                self._change(max(-may_change, min(may_change, missing)))
            await asyncio.wait([self._failed], timeout=_TICK_S)
            if self._failed.done():
                self._failed.result()

    def _change(self, by: int) -> None:
        """Switch on so many phones, or put away the latest ones."""
        for _ in range(by):
            person = self._people[len(self._phones)]
            journal = Journal(person, self._options, self._screens, self.count, self._rng, monotonic())
            self._phones.append(Phone(journal, self))
        for _ in range(-by):
            phone = self._phones.pop()
            self._leaving.add(phone)
            phone.put_away()

    async def _say_goodbye(self) -> None:
        """Wait until nothing is left of the phones that were put away."""
        if not self._leaving:
            return
        self._all_off.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._all_off.wait()
        for phone in list(self._leaving):
            phone.drop()  # a gateway that is frozen does not end its connections

    # -------------------------------------------------------------------------------------------- REST

    async def _befriend(self, host: Person, guests: list[Person]) -> None:
        invite = await self._call("POST", "/v1/invites", host.token, {"max_uses": INVITE_USES})
        if invite is None:
            return  # counted
        body = {"token": msgspec.json.decode(invite, type=_Invite).token}
        for guest in guests:
            await self._call("POST", "/v1/invitations/accept", guest.token, body)

    async def _call(self, method: str, path: str, token: str, body: Mapping[str, object] | None = None) -> bytes | None:
        """Make one REST call and count it; ``None`` where it was not done."""
        answer, problem = None, None
        async with self._calling:
            began_s = monotonic()
            try:
                answer = await self._api.send(method, path, token, body)
            except ApiError as error:
                # The celebrity may be a friend of some of them already.
                problem = None if error.code == "already_friends" else f"HTTP {error.status}"
            except ApiUnreachable:
                problem = "no answer"
            self.count(method, path, monotonic() - began_s, problem)
        return answer
