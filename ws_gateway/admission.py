"""Who may try to connect, and how often (protocol §4). Pure: the caller gives the time, in seconds.

Asked before anything that costs, so that a storm of reconnects is turned away for the price of reading its request.
"""

from __future__ import annotations

import enum
from collections import OrderedDict

from http_port.addresses import client_address, holder
from nearby.settings import AdmissionSettings

__all__ = ["Admission", "Refusal", "TokenBucket", "client_address"]

MAX_ADDRESSES = 50_000
"""Addresses remembered; the one not heard of for longest is forgotten first, which gives it a full bucket again."""
BURST_PER_ADDRESS_S = 5
"""An address may open this many seconds' worth of connections at once."""


class Refusal(enum.Enum):
    """Why a client may not connect now."""

    GATEWAY_RATE = "gateway_rate"
    ADDRESS_RATE = "address_rate"


class TokenBucket:
    """``rate`` tokens per second, ``burst`` of them at most; full at first."""

    __slots__ = ("_at_s", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Take one token, if there is one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Admission:
    """The limits of new connections: one for the gateway, one for each address."""

    def __init__(self, settings: AdmissionSettings, now_s: float) -> None:
        self._settings = settings
        self._all = TokenBucket(settings.connect_rate, settings.connect_burst, now_s)
        self._by_address: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_address)

    def refuse(self, address: str | None, now_s: float) -> Refusal | None:
        """Count one attempt of ``address``, ``None`` if not known; say why it must not connect now, if so.

        An address over its own limit takes nothing from the others' share.
        """
        rate = self._settings.connect_rate_per_address
        if rate and address is not None and not self._bucket(address, rate, now_s).take(now_s):
            return Refusal.ADDRESS_RATE
        if self._settings.connect_rate and not self._all.take(now_s):
            return Refusal.GATEWAY_RATE
        return None

    def _bucket(self, address: str, rate: float, now_s: float) -> TokenBucket:
        key = holder(address)
        bucket = self._by_address.get(key)
        if bucket is None:
            bucket = self._by_address[key] = TokenBucket(rate, max(1.0, rate * BURST_PER_ADDRESS_S), now_s)
            if len(self._by_address) > MAX_ADDRESSES:
                self._by_address.popitem(last=False)
        self._by_address.move_to_end(key)
        return bucket
