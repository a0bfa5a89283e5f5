"""What the API knows about one user seeing another. No coordinates leave it."""

from __future__ import annotations

import msgspec

from api.operators import find_person
from api.services import Services
from nearby.errors import NotFound, StoreUnavailable
from nearby.geo import distance_m, shown_distance_m
from nearby.ports import CachedLocation
from nearby.record import LocationRecord, approximate
from nearby.sharing import Decision, Tier
from social_graph.users import Person


class Who(msgspec.Struct, frozen=True):
    """One of the two."""

    user_id: str
    handle: str


class InForce(msgspec.Struct, frozen=True):
    """How exactly the friend lets the viewer see them now, until when at least, and what sets it."""

    precision: str
    until_ms: int | None
    reason: str


class Cached(msgspec.Struct, frozen=True):
    """Somebody's last location: how old it is, and when the cache forgets it, in milliseconds."""

    age_ms: int
    remaining_ms: int


class Explanation(msgspec.Struct, frozen=True):
    """All that the API has to say.

    ``in_force`` is ``None`` where the two are no friends, a location where none is known. ``blocked``: one of the two
    blocks the other. ``distance_m`` is as precise as the viewer may know it.
    """

    viewer: Who
    friend: Who
    in_force: InForce | None
    blocked: bool
    viewer_location: Cached | None
    friend_location: Cached | None
    distance_m: int | None
    default_radius_m: float


class Explainer:
    """Answers once it has ``services``."""

    def __init__(self) -> None:
        self.services: Services | None = None

    async def explain(self, viewer: str, friend: str) -> Explanation:
        """Return what is known of ``friend`` as seen by ``viewer``, each by user id or handle.

        Raises:
            NotFound: ``user_not_found``.
            StoreUnavailable: the database or the cache failed, or nothing is ready yet.
        """
        services = self.services
        if services is None:
            raise StoreUnavailable("api", "not ready yet")
        seeing, seen = await find_person(services, viewer), await find_person(services, friend)
        decision = await _decision(services, owner=seen, viewer=seeing)
        mine, theirs = await services.cache.read_many([seeing.user_id, seen.user_id])
        now_ms = services.clock()
        return Explanation(
            Who(seeing.user_id, seeing.handle),
            Who(seen.user_id, seen.handle),
            None if decision is None else InForce(decision.tier.label, decision.until_ms, decision.reason.value),
            await services.graph.blocks.stands_between(seeing.user_id, seen.user_id),
            _cached(mine, now_ms),
            _cached(theirs, now_ms),
            _distance_m(mine, theirs, Tier.OFF if decision is None else decision.tier),
            services.default_radius_m,
        )


async def _decision(services: Services, *, owner: Person, viewer: Person) -> Decision | None:
    try:
        return (await services.graph.rules.get(owner.user_id, viewer.user_id)).in_force
    except NotFound:
        return None


def _cached(found: CachedLocation | None, now_ms: int) -> Cached | None:
    return None if found is None else Cached(now_ms - found.record.recorded_at_ms, found.remaining_ms)


def _distance_m(mine: CachedLocation | None, theirs: CachedLocation | None, tier: Tier) -> int | None:
    if mine is None or theirs is None or tier is Tier.OFF:
        return None
    here = mine.record
    there: LocationRecord = theirs.record if tier is Tier.EXACT else approximate(theirs.record)
    metres = distance_m(here.lat_deg, here.lon_deg, there.lat_deg, there.lon_deg)
    return shown_distance_m(metres, exact=tier is Tier.EXACT)
