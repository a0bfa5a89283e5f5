"""How long to wait before coming back (protocol §5): full jitter, pure and without a clock.

Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("full jitter").
"""

from __future__ import annotations

import random

BASE_S = 0.5
CAP_S = 30.0


class Backoff:
    """Delays ``random(0, min(cap, base · 2^n))`` where ``n`` counts the failures since :meth:`reset`.

    A crowd that lost the same server at the same moment comes back spread out, not in step.
    """

    def __init__(self, rng: random.Random, *, base_s: float = BASE_S, cap_s: float = CAP_S) -> None:
        self._rng = rng
        self._base_s = base_s
        self._cap_s = cap_s
        self._failures = 0

    def bound_s(self) -> float:
        """Return the longest that the next delay can be, seconds."""
        # 2.0 ** 1024 would overflow, and long before that the cap decides.
        return min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 64))

    def next_s(self) -> float:
        """Return the next delay, seconds, and count one more failure."""
        delay_s = self._rng.uniform(0, self.bound_s())
        self._failures += 1
        return delay_s

    def reset(self) -> None:
        """Forget the failures: a connection was welcomed."""
        self._failures = 0
