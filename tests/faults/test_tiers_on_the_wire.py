"""S13: every channel of every shard sniffed while people of mixed tiers walk about.

``NEARBY_TEST_SNIFF_USERS`` sets how many; 200 is the full size.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from redis.asyncio import Redis

from nearby.channels import approximate_channel, is_approximate, is_location, location_channel, user_of
from nearby.model import UserId
from nearby.record import LocationRecord, approximate, pack, unpack
from tests.support.eventually import eventually
from tests.support.seeding import seed
from tests.support.stack import Stack, running_stack
from tests.support.watchers import Watcher, now_ms, place, watchers

USERS = int(os.environ.get("NEARBY_TEST_SNIFF_USERS", "32"))
FRIENDS = 4
ROUNDS = 4
PAUSE_S = max(0.5, USERS / 100)
SETTINGS = {"NEARBY_MESSAGE_RATE": "0", "NEARBY_MAX_SPEED_MPS": "0", "NEARBY_REPORT_INTERVAL_S": "1"}
ARGUMENTS = ("--api-port", "0", "--gateway-ports", "0,0,0", "--shards", "3", "--spares", "0", "--ephemeral")
TIERS = ("exact", "approximate", "off", "mixed")


@dataclass(slots=True)
class Sniffer:
    """Everything that was published, in order: channel and payload."""

    heard: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def listen(self, url: str, ready: asyncio.Event) -> None:
        async with aclosing(Redis.from_url(url)) as redis, redis.pubsub() as pubsub:
            await pubsub.psubscribe("*")
            async for message in pubsub.listen():
                if message["type"] == "psubscribe":
                    ready.set()
                elif message["type"] == "pmessage":
                    self.heard.append((message["channel"], message["data"]))


@asynccontextmanager
async def sniffing(stack: Stack) -> AsyncIterator[Sniffer]:
    sniffer = Sniffer()
    async with asyncio.TaskGroup() as tasks:
        ready = []
        listening = []
        for url in stack.shard_urls.values():
            ready.append(asyncio.Event())
            listening.append(tasks.create_task(sniffer.listen(url, ready[-1])))
        async with asyncio.timeout(10):
            await asyncio.gather(*(each.wait() for each in ready))
        yield sniffer
        for task in listening:
            task.cancel()


def leaks(heard: list[tuple[bytes, bytes]], places: dict[UserId, list[tuple[float, float]]]) -> list[str]:
    """Say where the exact place of a user in ``places``, whom nobody may see exactly, went to; whatever the form."""
    needles = [(form, user) for user, seen in places.items() for point in seen for form in written(*point)]
    found = []
    for channel, payload in heard:
        found += [f"{user} in {channel!r}" for form, user in needles if all(part in payload for part in form)]
        if is_approximate(channel):
            record = unpack(payload)
            if payload != pack(approximate(record)):
                found.append(f"more than a cell in {channel!r}")
        elif is_location(channel) and user_of(channel) in places:
            found.append(f"a record in {channel!r}")
    return found


def written(lat: float, lon: float) -> list[list[bytes]]:
    """Return what a message holds that tells this place: both numbers packed as in a record, or both as digits.

    One of them alone may be that of somebody else.
    """
    return [
        [struct.pack("<i", round(angle * 10_000_000)) for angle in (lat, lon)],
        [f"{angle:.5f}".encode() for angle in (lat, lon)],
    ]


async def set_rules(stack: Stack, tokens: dict[UserId, str], tier_of: dict[UserId, str]) -> None:
    """Have each user let every friend see them by their tier; of a mixed one, one friend sees them exactly."""
    users = list(tokens)
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False, timeout=10) as http:
        for index, (user, token) in enumerate(tokens.items()):
            friends = [users[(index + step) % len(users)] for step in (-2, -1, 1, 2)]
            for number, friend in enumerate(friends):
                precision = tier_of[user]
                if precision == "mixed":
                    precision = "exact" if number == 0 else "approximate"
                path, headers = f"/v1/friends/{friend}/sharing", {"Authorization": f"Bearer {token}"}
                answer = await http.put(path, headers=headers, json={"precision": precision})
                assert answer.status_code == 200, answer.text


class Walk:
    """Everybody somewhere else in each round. ``places`` is where each user was."""

    def __init__(self, clients: dict[UserId, Watcher]) -> None:
        # Everybody has reported on arriving.
        self.places = {user: [place(number)] for number, user in enumerate(clients)}
        self._clients = clients
        self._rng = random.Random(13)

    async def round(self) -> None:
        for user, client in self._clients.items():
            here = (
                round(41.88 + self._rng.uniform(-0.02, 0.02), 5),
                round(-87.63 + self._rng.uniform(-0.02, 0.02), 5),
            )
            self.places[user].append(here)
            client.report(*here, now_ms())
            await asyncio.sleep(PAUSE_S / len(self._clients))


def of(
    places: dict[UserId, list[tuple[float, float]]], tier_of: dict[UserId, str], *tiers: str
) -> dict[UserId, list[tuple[float, float]]]:
    return {user: seen for user, seen in places.items() if tier_of[user] in tiers}


async def test_S13_no_exact_place_enters_a_channel_of_people_who_may_not_see_it(tmp_path: Path) -> None:
    async with running_stack(tmp_path, SETTINGS, ARGUMENTS) as stack:
        tokens = seed(stack.data_dir, USERS, FRIENDS)
        tier_of = {user: TIERS[number % len(TIERS)] for number, user in enumerate(tokens)}
        await set_rules(stack, tokens, tier_of)
        urls = [gateway.ws_url for gateway in stack.gateways]
        async with sniffing(stack) as sniffer, watchers(tokens, urls) as clients:
            walk = Walk(clients)
            for _ in range(ROUNDS):
                await walk.round()
            await eventually(lambda: heard_of(sniffer, "exact", tier_of, walk), within_s=20)
            await eventually(lambda: heard_of(sniffer, "approximate", tier_of, walk), within_s=20)
        hidden = of(walk.places, tier_of, "approximate", "off")
        assert leaks(sniffer.heard, hidden) == []
        counts = Counter(channel for channel, _ in sniffer.heard)
        for user, tier in tier_of.items():
            # Where they stood on arriving is one more.
            assert counts[location_channel(user)] == (ROUNDS + 1 if tier in ("exact", "mixed") else 0)
            assert (counts[approximate_channel(user)] > 0) == (tier in ("approximate", "mixed"))
        seen_approximately = of(walk.places, tier_of, "mixed")
        in_coarse = [each for each in sniffer.heard if is_approximate(each[0])]
        assert leaks(in_coarse, seen_approximately) == []
        wrong = [
            f"{entry.entry.precision} of a user who is {tier_of[UserId(friend)]}"
            for viewer in clients.values()
            for friend, seen in viewer.sights.items()
            for entry in seen
            if tier_of[UserId(friend)] not in (entry.entry.precision, "mixed")
        ]
        assert wrong == []


def heard_of(sniffer: Sniffer, tier: str, tier_of: dict[UserId, str], walk: Walk) -> bool:
    """Whether the last place of everybody of ``tier`` has been published."""
    latest = {}
    for channel, payload in sniffer.heard:
        if is_location(channel):
            latest[channel] = unpack(payload)
    for user, seen in of(walk.places, tier_of, tier).items():
        record = LocationRecord(0, 0, *seen[-1])
        if tier == "exact":
            found, wanted = latest.get(location_channel(user)), unpack(pack(record))
        else:
            found, wanted = latest.get(approximate_channel(user)), unpack(pack(approximate(record)))
        if found is None or found[2:4] != wanted[2:4]:
            return False
    return True


def test_S13_the_sniffer_notices_exact_places_whatever_their_form() -> None:
    """The negative control."""
    anna = UserId("00000000-0000-4000-8000-00000000000a")
    places = {anna: [(41.88123, -87.63432)]}
    record = LocationRecord(1, 2, *places[anna][0])
    coarse, exact, other = approximate_channel(anna), location_channel(anna), b"ctl:" + anna.encode()
    assert leaks([(coarse, pack(approximate(record)))], places) == []
    assert leaks([(coarse, pack(record))], places)
    assert leaks([(coarse, pack(approximate(record)._replace(speed_mps=1.0)))], places)
    assert leaks([(exact, pack(approximate(record)))], places)
    assert leaks([(other, pack(record))], places)
    assert leaks([(other, b'{"lat":41.88123,"lon":-87.63432}')], places)
