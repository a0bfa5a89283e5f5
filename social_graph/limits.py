"""How much one user may have and do."""

from __future__ import annotations

from dataclasses import dataclass

MS_PER_DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_friends``: of one user; ``requests_per_day``: friend requests of one sender and UTC day, 0: any number.

    A friend request that nobody has answered for ``request_lifetime_s`` seconds is over; the answer to a write with an
    Idempotency-Key is kept for ``idempotency_lifetime_s`` seconds.
    """

    max_friends: int = 5_000
    requests_per_day: int = 100
    request_lifetime_s: int = 30 * 86_400
    idempotency_lifetime_s: int = 86_400
