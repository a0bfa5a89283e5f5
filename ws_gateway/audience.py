"""Who may see a connected user, as far as publishing goes: whether anybody may see each tier. Pure.

An exact record is published only while somebody may see it, an approximate one likewise, so what nobody may see does
not leave the gateway. The gateways of the viewers judge for themselves as well: both must agree.
"""

from __future__ import annotations

from nearby.model import UserId
from nearby.record import LocationRecord
from nearby.sharing import EXACT, NO_LIMITS, Limits, Tier, TierPlan, ceiling


class Audience:
    """The friends of one connection's user, by the tiers that they see.

    ``plans`` holds only those to whom something special was said, ``count`` counts all. ``sequence`` is the row of the
    change feed from which the switch and the limits for everyone are.
    """

    __slots__ = (
        "_approximate",
        "_cell",
        "_exact",
        "_told_ms",
        "_until_ms",
        "count",
        "limits",
        "plans",
        "sequence",
        "switched_on",
    )

    def __init__(self) -> None:
        self.count = 0
        self.plans: dict[UserId, TierPlan] = {}
        self.switched_on = True
        self.limits = NO_LIMITS
        self.sequence = 0
        self._exact = False
        self._approximate = False
        self._until_ms: int | None = 0
        self._cell: tuple[float, float] | None = None
        self._told_ms = 0

    def say(self, switched_on: bool, limits: Limits, sequence: int) -> None:
        """Note what this user says to everyone, by row ``sequence`` of the feed; older news is ignored."""
        if sequence >= self.sequence:
            self.switched_on, self.limits, self.sequence = switched_on, limits, sequence
            self._until_ms = 0

    def let(self, friend_id: UserId, plan: TierPlan, *, new: bool) -> None:
        """Note how exactly ``friend_id`` may see this user."""
        self.count += new
        if plan is EXACT or plan == EXACT:
            self.plans.pop(friend_id, None)
        else:
            self.plans[friend_id] = plan
        self._until_ms = 0

    def forget(self, friend_id: UserId) -> None:
        """Note that ``friend_id`` is a friend no longer."""
        self.count -= 1
        self.plans.pop(friend_id, None)
        self._until_ms = 0

    def tiers(self, now_ms: int) -> tuple[bool, bool]:
        """Return whether anybody may see this user exactly, and whether anybody may approximately, at ``now_ms``."""
        if self._until_ms is not None and now_ms >= self._until_ms:
            self._work_out(now_ms)
        return self._exact, self._approximate

    def _work_out(self, now_ms: int) -> None:
        for_all = ceiling(self.switched_on, self.limits, now_ms)
        ends_ms = [plan.until_ms(now_ms) for plan in self.plans.values()]
        self._until_ms = min((end for end in [for_all.until_ms, *ends_ms] if end is not None), default=None)
        seen = {min(plan.at(now_ms), for_all.tier) for plan in self.plans.values()}
        if self.count > len(self.plans):
            seen.add(for_all.tier)
        self._exact, self._approximate = Tier.EXACT in seen, Tier.APPROXIMATE in seen

    def shares(self, now_ms: int) -> bool:
        """Whether what this user says to everyone lets anything through at ``now_ms``."""
        return ceiling(self.switched_on, self.limits, now_ms).tier is not Tier.OFF

    def is_due(self, record: LocationRecord, now_ms: int, heartbeat_ms: int) -> bool:
        """Whether the approximate ``record`` is to be published: in another cell than the last, or as the heartbeat.

        So nobody can tell whether somebody moves within a cell, not even by how often they are heard of.
        """
        cell = record.lat_deg, record.lon_deg
        if cell == self._cell and now_ms - self._told_ms < heartbeat_ms:
            return False
        self._cell, self._told_ms = cell, now_ms
        return True
