"""Somebody who makes friends and parts from them, over and over, with people whose phones are on."""

from __future__ import annotations

import random

from locust import between, task
from locust.contrib.fasthttp import FastHttpUser

from loadtest.people import Refused, befriend, call, insist, sign_up
from loadtest.person import Person
from loadtest.phone import Phone


class FriendChurn(FastHttpUser):
    """REST alone; what it changes reaches the gateways of the others."""

    weight = 1
    wait_time = between(0.5, 1.5)
    network_timeout = connection_timeout = 10.0

    def on_start(self) -> None:
        """Sign up."""
        self.rng = random.SystemRandom()
        self.person: Person = insist(lambda: sign_up(self.client))

    @task(3)
    def look_at_friends(self) -> None:
        """Ask for the list of friends."""
        self._call("GET", "/v1/friends")

    @task(1)
    def make_a_friend_and_part(self) -> None:
        """Have somebody accept an invite, then remove them."""
        others = [phone.person for phone in Phone.switched_on if phone.person is not None]
        if not others:
            return
        other = self.rng.choice(others)
        try:
            befriend(self.client, self.person, other)
        except Refused:
            return
        other.friend_count -= 1
        self._call("DELETE", f"/v1/friends/{other.user_id}", "/v1/friends/{user_id}")

    def _call(self, method: str, path: str, name: str = "") -> None:
        try:
            call(self.client, method, path, self.person.token, name=name)
        except Refused:
            return  # counted by Locust
