"""A crowd in which every single update can be accounted for.

Half of the people stand still and watch, the other half report from within everybody's radius. A watcher is sent an
entry of a reporter for nothing but that reporter's reports, so each acknowledged report must reach each watching
friend exactly once.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from nearby.messages import Snapshot, Update
from nearby.model import UserId
from nearby_client import Event, NearbyApi, NearbyClient
from tests.support.eventually import eventually
from tests.support.seeding import seed
from tests.support.stack import Stack

SETTINGS = {"NEARBY_MESSAGE_RATE": "0", "NEARBY_MAX_SPEED_MPS": "0"}
HERE = (41.88, -87.63)
AT_ONCE = 25


class SteadyCrowd:
    """``users`` people with ``friends`` friends each, spread over the gateways; every other one reports.

    ``latencies`` holds, for each entry received, whose it is, when the report was sent (loop time) and how long it
    took.
    """

    def __init__(self, users: list[UserId], friends: int) -> None:
        self.users = users
        self.clients: dict[UserId, NearbyClient] = {}
        self.latencies: list[tuple[UserId, float, float]] = []
        self._shown: dict[tuple[UserId, UserId], list[tuple[float, float]]] = {}  # sent, received; by pair
        self._half = friends // 2
        self._standing = set(users[1::2])
        self._sent: dict[tuple[UserId, int], float] = {}
        self._seen: Counter[tuple[UserId, UserId, int]] = Counter()  # watcher, reporter, recorded_at_ms
        self._home: dict[UserId, str] = {}

    @property
    def reporters(self) -> list[UserId]:
        return self.users[::2]

    def watchers_of(self, reporter: UserId) -> list[UserId]:
        """Return the friends of ``reporter`` who stand still."""
        index, count = self.users.index(reporter), len(self.users)
        steps = [step for step in range(-self._half, self._half + 1) if step % 2]
        return [self.users[(index + step) % count] for step in steps]

    def take(self, watcher: UserId, event: Event) -> None:
        """Note what a client was told. Those who move are sent an entry again for their own moves: not counted."""
        if watcher not in self._standing:
            return
        now_s = asyncio.get_running_loop().time()
        for entry in event.friends if isinstance(event, Update | Snapshot) else ():
            key = (UserId(entry.user_id), entry.updated_at_ms)
            if isinstance(event, Update):
                self._seen[watcher, *key] += 1
            if key in self._sent:
                self.latencies.append((key[0], self._sent[key], now_s - self._sent[key]))
                self._shown.setdefault((watcher, key[0]), []).append((self._sent[key], now_s))

    async def report(self, per_second: float) -> None:
        """Let the reporters report in turn, ``per_second`` reports a second all together, until cancelled."""
        loop = asyncio.get_running_loop()
        rng = random.Random(1)
        due_s = loop.time()
        recorded_at_ms = time.time_ns() // 1_000_000
        while True:
            for reporter in self.reporters:
                due_s += 1 / per_second
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                recorded_at_ms = max(recorded_at_ms + 1, time.time_ns() // 1_000_000)
                self._sent[reporter, recorded_at_ms] = loop.time()
                lat, lon = HERE[0] + rng.uniform(-0.001, 0.001), HERE[1] + rng.uniform(-0.001, 0.001)
                self.clients[reporter].report(lat, lon, recorded_at_ms=recorded_at_ms)

    @asynccontextmanager
    async def reporting(self, per_second: float) -> AsyncIterator[None]:
        """Let the reporters report for the length of the context."""
        reports = asyncio.ensure_future(self.report(per_second))
        try:
            yield
        finally:
            reports.cancel()
            with suppress(asyncio.CancelledError):
                await reports

    def forget(self) -> None:
        """Hold nobody to account for what was reported until now."""
        self._sent.clear()

    def lost(self, gateways: set[str] | None = None, after_s: float = 0.0, before_s: float = math.inf) -> list[str]:
        """Return the updates that a watching friend was not shown.

        Of people connected to ``gateways`` alone, if given; of reports sent between two loop times.
        """
        missing = []
        for (reporter, recorded_at_ms), sent_s in self._sent.items():
            if not after_s <= sent_s < before_s or not self._counts(reporter, gateways):
                continue
            missing += [
                f"{watcher} missed {reporter} at {recorded_at_ms}"
                for watcher in self.watchers_of(reporter)
                if self._counts(watcher, gateways) and not self._seen[watcher, reporter, recorded_at_ms]
            ]
        return missing

    def shown_twice(self, gateways: set[str] | None = None) -> int:
        """Return how many updates a watcher was shown more than once; of people connected to ``gateways``, if given.

        Who loses the connection sends the last report again, and it is shown again.
        """
        return sum(
            count > 1
            for (watcher, reporter, at_ms), count in self._seen.items()
            if (reporter, at_ms) in self._sent and self._counts(watcher, gateways) and self._counts(reporter, gateways)
        )

    def p99_s(self, from_s: float, to_s: float) -> float:
        """Return the 99th percentile of the latency of reports sent between two loop times."""
        return percentile_99([latency for _, sent_s, latency in self.latencies if from_s <= sent_s < to_s])

    def staleness_s(self, from_s: float, to_s: float) -> list[float]:
        """Return, for each watching pair, how old the oldest location was that the map showed in between, seconds.

        The age of what is shown is greatest just before something newer is shown.
        """
        worst = []
        for shown in self._shown.values():
            ends = [received_s for _, received_s in shown[1:]] + [to_s]
            ages = [
                min(end_s, to_s) - sent_s
                for (sent_s, received_s), end_s in zip(shown, ends, strict=True)
                if end_s >= from_s and received_s <= to_s
            ]
            worst.append(max(ages))
        return worst

    def _counts(self, user: UserId, gateways: set[str] | None) -> bool:
        return gateways is None or self._home[user] in gateways

    async def gather(self, api: NearbyApi, stack: Stack, tokens: dict[UserId, str], exits: AsyncExitStack) -> None:
        """Connect everybody, the next one to the next gateway, and let each report once."""
        gateways = stack.gateways
        for index, user in enumerate(self.users):
            # Pairs go to one gateway, so that watchers and reporters of each see friends here and there.
            gateway = gateways[index // 2 % len(gateways)]
            self._home[user] = gateway.id
            self.clients[user] = NearbyClient(
                api, tokens[user], url=gateway.ws_url, on_event=partial(self.take, user), rng=random.Random(index)
            )
        clients = list(self.clients.values())
        for start in range(0, len(clients), AT_ONCE):
            some = clients[start : start + AT_ONCE]
            for client in some:
                await exits.enter_async_context(client)
            await eventually(partial(_are_connected, some), within_s=30)
            for client in some:
                client.report(*HERE)
        full = 2 * self._half
        await eventually(lambda: all(len(client.friends) == full for client in self.clients.values()), within_s=60)


@asynccontextmanager
async def steady_crowd(stack: Stack, users: int, friends: int) -> AsyncIterator[SteadyCrowd]:
    """Yield a crowd that is connected and sees all its friends."""
    tokens = seed(stack.data_dir, users, friends)
    crowd = SteadyCrowd(list(tokens), friends)
    async with NearbyApi(stack.api_url) as api, AsyncExitStack() as exits:
        await crowd.gather(api, stack, tokens, exits)
        yield crowd


def _are_connected(clients: list[NearbyClient]) -> bool:
    return all(client.connected for client in clients)


def percentile_99(latencies_s: list[float]) -> float:
    """Return the 99th percentile of more than a hundred latencies."""
    assert len(latencies_s) > 100
    return sorted(latencies_s)[int(len(latencies_s) * 0.99)]
