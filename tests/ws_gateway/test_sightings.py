"""Who saw whom is noted once a minute, and what ended in between is not forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from nearby.errors import StoreUnavailable
from nearby.model import FriendList, GoneReason, UserId
from tests.ws_gateway.test_hub import ANNA, BEN, CLEO, NOW_MS, SEOUL, at, due
from tests.ws_gateway.test_tiers import OFF, Here
from ws_gateway.sightings import Sightings
from ws_gateway.viewer import Viewer


class Directory:
    """Keeps what it is told, unless it is away."""

    def __init__(self) -> None:
        self.noted: list[set[tuple[UserId, UserId]]] = []
        self.away = False

    async def note_sightings(self, pairs: Sequence[tuple[UserId, UserId]]) -> None:
        if self.away:
            raise StoreUnavailable("social_graph", "away")
        self.noted.append(set(pairs))

    async def friend_list(self, user_id: UserId) -> FriendList | None:
        raise NotImplementedError

    async def changes_after(self, sequence: int) -> list[object]:
        raise NotImplementedError

    async def latest_sequence(self) -> int:
        raise NotImplementedError


class Watch:
    """Anna and Cleo, who watch Ben; every minute what they saw is noted."""

    def __init__(self) -> None:
        self.here = Here()
        self.viewers = [self.here.viewer(), self.here.viewer(user_id=CLEO)]
        self.directory = Directory()
        self.sightings = Sightings(self.here.hub, lambda: self.viewers, lambda: self.here.now_ms)

    def publish(self) -> None:
        self.here.publish(at(*SEOUL, self.here.now_ms))
        for viewer in self.viewers:
            due(self.here.hub, viewer)

    async def minute(self) -> set[tuple[UserId, UserId]]:
        self.here.now_ms += 60_000
        await self.sightings.gather()
        await self.sightings.note(self.directory)  # type: ignore[arg-type]
        return self.directory.noted[-1]


async def test_who_is_shown_somebody_who_was_heard_of_since_is_noted() -> None:
    watch = Watch()
    assert await watch.minute() == set()
    watch.publish()
    assert await watch.minute() == {(BEN, ANNA), (BEN, CLEO)}
    assert await watch.minute() == set(), "nothing new was received"


async def test_what_ended_within_the_minute_is_noted_whatever_ended_it() -> None:
    def falls_silent(here: Here, viewer: Viewer) -> None:
        here.hub.expire(here.now_ms + 10**7)

    def pauses(here: Here, viewer: Viewer) -> None:
        here.hub.set_sharing(BEN, False, 99)

    def switches_off(here: Here, viewer: Viewer) -> None:
        here.rule(viewer, OFF)

    def unfriends(here: Here, viewer: Viewer) -> None:
        here.hub.remove_friend(viewer, BEN, GoneReason.REMOVED)

    def walks_away(here: Here, viewer: Viewer) -> None:
        here.hub.move(viewer, 0.0, 0.0)

    def asks_for_a_snapshot_elsewhere(here: Here, viewer: Viewer) -> None:
        viewer.vector = (1.0, 0.0, 0.0)
        viewer.snapshot()

    for end in (falls_silent, pauses, switches_off, unfriends, walks_away, asks_for_a_snapshot_elsewhere):
        watch = Watch()
        watch.publish()
        anna = watch.viewers[0]
        end(watch.here, anna)
        due(watch.here.hub, anna)
        assert (BEN, ANNA) in await watch.minute(), end.__name__
        assert (BEN, ANNA) not in await watch.minute(), end.__name__


async def test_who_disconnects_is_noted() -> None:
    watch = Watch()
    watch.publish()
    anna = watch.viewers.pop(0)
    watch.here.hub.detach(anna)
    watch.sightings.left(anna)
    assert await watch.minute() == {(BEN, ANNA), (BEN, CLEO)}


async def test_while_the_api_is_away_sightings_wait() -> None:
    watch = Watch()
    watch.publish()
    watch.directory.away = True
    watch.directory.noted.append(set())
    assert await watch.minute() == set()
    watch.directory.away = False
    assert await watch.minute() == {(BEN, ANNA), (BEN, CLEO)}
    assert watch.here.now_ms > NOW_MS
