"""The arithmetic of a rate limit: the generic cell rate algorithm. Pure: the caller gives the time, in seconds.

A bucket is an instant: when it will be full again (the "theoretical arrival time" of ITU-T I.371, where the algorithm
comes from). Each request moves the instant on by one interval, and is refused if that puts it more than a window ahead
of now. The script in :mod:`rate_limits.redis` is the same arithmetic, and a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """``quota`` requests may come at once, and as many in every ``window_s`` seconds after; quota 0: any number.

    ``name`` goes into the answer's headers, and keeps the buckets of different policies apart.
    """

    name: str
    quota: int
    window_s: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one request: ``remaining`` more may come now; in ``reset_s`` seconds the whole quota may again.

    A refused one may come again in ``retry_after_s`` seconds; 0 if it was allowed.
    """

    allowed: bool
    remaining: int
    reset_s: float
    retry_after_s: float


def take(policy: Policy, full_at_s: float | None, now_s: float) -> tuple[Decision, float]:
    """Take one request out of a bucket that will be full at ``full_at_s`` (``None``: it is); return the new instant."""
    interval_s = policy.window_s / policy.quota
    full_at_s = now_s if full_at_s is None else max(full_at_s, now_s)
    after_s = full_at_s + interval_s
    ahead_s = after_s - now_s - policy.window_s
    if ahead_s > 1e-6:
        return Decision(False, 0, full_at_s - now_s, ahead_s), full_at_s
    return decided(policy, after_s - now_s), after_s


def decided(policy: Policy, reset_s: float) -> Decision:
    """Return the decision to allow a request after which the bucket is full in ``reset_s`` seconds."""
    interval_s = policy.window_s / policy.quota
    return Decision(True, int((policy.window_s - reset_s) / interval_s + 1e-6), reset_s, 0.0)
