"""Servers that are started under numbered addresses, as a StatefulSet's pods are, become spares by themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from nearby.errors import NearbyError
from nearby.ports import RingState
from pubsub_router import plan
from pubsub_router.keeper import RingKeeper
from pubsub_router.keeper_probe import addresses_of, why_unusable
from pubsub_router.plan import RingRefused

log = logging.getLogger(__name__)

LOOK_S = 2.0
AHEAD_COUNT = 4
"""How many numbers above the highest one known are tried: a pod in the middle may be away, and several come at once."""
GONE_AFTER_S = 60.0
"""A spare that has not answered for this long is forgotten; it comes back with its first answer."""
NUMBER = "{n}"


def addresses_to_try(ring: RingState, pool: str) -> list[str]:
    """Return the addresses of ``pool`` that may have a server that ``ring`` does not know of, in their order.

    ``pool`` is an address with :data:`NUMBER` in it; the first server has number 0.
    """
    used = addresses_of(ring)
    known = [number for address in used if (number := _number(address, pool)) is not None]
    addresses = (pool.replace(NUMBER, str(number)) for number in range(max(known, default=-1) + 1 + AHEAD_COUNT))
    return [address for address in addresses if address not in used]


def _number(address: str, pool: str) -> int | None:
    before, _, after = pool.partition(NUMBER)
    middle = address.removeprefix(before).removesuffix(after)
    return int(middle) if f"{before}{middle}{after}" == address and middle.isdecimal() else None


class Silence:
    """Since when each spare of ``pool`` has not answered, in seconds of a monotonic clock."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._since_s: Mapping[str, float] = {}

    def over_long(self, spares: Sequence[str], answering: Iterable[str], now_s: float) -> list[str]:
        """Take notice of who answers now; return those who have not for :data:`GONE_AFTER_S`."""
        silent = [spare for spare in spares if spare not in answering and _number(spare, self._pool) is not None]
        self._since_s = {spare: self._since_s.get(spare, now_s) for spare in silent}
        return [spare for spare in silent if now_s - self._since_s[spare] >= GONE_AFTER_S]


async def follow_pool(keeper: RingKeeper, keeper_id: str, pool: str) -> None:
    """Let ``keeper``, while it leads, offer the servers of ``pool`` as spares, until cancelled."""
    silence = Silence(pool)
    while True:
        await asyncio.sleep(LOOK_S)
        view = keeper.view()
        if view is None or not keeper.leading:
            continue
        gone = silence.over_long(view.ring.spares, view.answering_spares, view.now_s)
        tried = addresses_to_try(view.ring, pool)
        answers = await asyncio.gather(*(why_unusable(address) for address in tried))
        new = [address for address, why_not in zip(tried, answers, strict=True) if not why_not]
        for address in new:
            await _change(keeper, keeper_id, f"{address} answers", add=[address])
        for address in gone:
            await _change(keeper, keeper_id, f"{address} is gone", remove=[address])


async def _change(
    keeper: RingKeeper, keeper_id: str, reason: str, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> None:
    def change(present: RingState | None) -> RingState:
        if present is None:
            raise RingRefused("no_ring", "there is no ring yet")
        return plan.change_spares(present, add, remove)

    try:
        await keeper.change(change, "spares", reason, keeper_id)
    except NearbyError as error:
        # Somebody else was faster, or discovery is away: the next look sees how it stands.
        log.info("%s, which changes nothing now: %s", reason, error)
