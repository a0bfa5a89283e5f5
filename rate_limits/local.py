"""Buckets in this process's own memory."""

from __future__ import annotations

from collections import OrderedDict

from rate_limits.policy import Decision, Policy, take

MAX_BUCKETS = 100_000
"""The one not asked for longest is forgotten first, which gives it a full quota again."""


class LocalBuckets:
    """Bounded; no I/O."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max_buckets = max_buckets
        self._full_at_s: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at_s)

    def take(self, policy: Policy, subject: str, now_s: float) -> Decision:
        """Take one request of ``subject`` at ``now_s``, seconds by any clock that only goes on."""
        key = (policy.name, subject)
        decision, self._full_at_s[key] = take(policy, self._full_at_s.get(key), now_s)
        self._full_at_s.move_to_end(key)
        if len(self._full_at_s) > self._max_buckets:
            self._full_at_s.popitem(last=False)
        return decision
