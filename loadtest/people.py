"""Who uses the phones of this process: signed up over REST, or taken from a file of seeded people."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import gevent
from locust.contrib.fasthttp import FastHttpSession

from loadtest.person import INVITE_USES, Person, read_people
from nearby_client.backoff import Backoff

T = TypeVar("T")


class Refused(Exception):
    """The API did not do it: an HTTP status, or 0 where no answer came. Locust has counted it."""

    def __init__(self, what: str, status: int) -> None:
        self.status = status
        super().__init__(f"{what}: HTTP {status}")


class NobodyLeft(Exception):
    """Every person of this process's part of the file has a phone already."""


def call(
    client: FastHttpSession, method: str, path: str, token: str = "", body: object = None, name: str = ""
) -> dict[str, Any]:
    """Make one REST call; the row of the report is ``name``, by default the path.

    Raises:
        Refused: any answer but a good one.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = client.request(method, path, name=name or path, json=body, headers=headers)
    if not 200 <= response.status_code < 300:
        raise Refused(f"{method} {name or path}", response.status_code)
    return dict(json.loads(response.text)) if response.text else {}


def insist(work: Callable[[], T]) -> T:
    """Do ``work`` again, with full jitter, until the API does it: a phone cannot begin without."""
    backoff = Backoff(random.SystemRandom())
    while True:
        try:
            return work()
        except Refused:
            gevent.sleep(backoff.next_s())


def sign_up(client: FastHttpSession) -> Person:
    """Return a new user, logged in."""
    handle, password = f"load_{secrets.token_hex(8)}", secrets.token_urlsafe(12)
    body = {"handle": handle, "password": password, "display_name": "Load"}
    user_id = call(client, "POST", "/v1/users", body=body)["user_id"]
    person = Person(user_id, "", handle, password)
    insist(lambda: log_in(client, person))
    return person


def log_in(client: FastHttpSession, person: Person) -> None:
    """Give somebody a new token."""
    body = {"handle": person.handle, "password": person.password}
    person.token = call(client, "POST", "/v1/tokens", body=body)["access_token"]


def befriend(client: FastHttpSession, host: Person, guest: Person) -> None:
    """Make friends by an invite of ``host``: unlike requests, there may be any number of them in a day."""
    if not host.invite_uses_left:
        made = call(client, "POST", "/v1/invites", host.token, {"max_uses": INVITE_USES})
        host.invite, host.invite_uses_left = made["token"], INVITE_USES
    host.invite_uses_left -= 1
    call(client, "POST", "/v1/invitations/accept", guest.token, {"token": host.invite})
    host.friend_count += 1
    guest.friend_count += 1


class People:
    """Everybody of this process.

    ``celebrity`` makes the first one everybody's friend; ``seeded`` tells that they come from a file.
    """

    def __init__(self, friends: int, *, celebrity: bool) -> None:
        self.everybody: list[Person] = []
        self._resting: list[Person] = []
        self._friends = friends
        self._celebrity = celebrity
        self.seeded = False
        self._rng = random.SystemRandom()

    def load(self, file: Path, part: int, parts: int) -> None:
        """Take part ``part`` of ``parts`` of a file of seeded people, who are friends of their neighbours in it."""
        self._resting = read_people(file, part, parts)[::-1]
        self.seeded = True

    def take(self, client: FastHttpSession) -> Person:
        """Return somebody without a phone: who had one before, a seeded person, or a new one with friends.

        Raises:
            NobodyLeft: all seeded people have phones.
        """
        if self._resting:
            person = self._resting.pop()
            if not self.seeded or person in self.everybody:
                return person
            others: list[Person] = []
        elif self.seeded:
            raise NobodyLeft
        else:
            person = insist(lambda: sign_up(client))
            others = self._choose_friends()
        if self._celebrity and self.everybody:
            others = [self.everybody[0], *(other for other in others if other is not self.everybody[0])]
        self.everybody.append(person)
        for other in others:
            try:
                befriend(client, other, person)
            except Refused:
                continue  # counted; one friend less
        return person

    def give_back(self, person: Person) -> None:
        """Somebody put the phone away."""
        self._resting.append(person)

    def _choose_friends(self) -> list[Person]:
        """Half of the friends: the other half comes with those who sign up later."""
        free = [person for person in self.everybody if person.friend_count < self._friends]
        return self._rng.sample(free, min(len(free), max(1, self._friends // 2)))
