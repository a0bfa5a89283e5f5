"""The ring keeper: watches the ring and its members, and drives what :mod:`pubsub_router.keeper_rules` decides.

Any number of keepers may run; one is elected, and the others watch. Every write is checked against the ring that the
decision was made on, so a keeper that was leader a moment ago cannot undo what the next one did.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import assert_never

from nearby.errors import RingConflict, RingError, StoreUnavailable
from nearby.ports import Clock, Discovery, Leadership, Member, RingAction, RingState, Role
from pubsub_router import plan
from pubsub_router.keeper_probe import Probes
from pubsub_router.keeper_rules import Abort, Action, Commit, Finish, Replace, Rules, View, Wait, votes
from pubsub_router.plan import RingRefused

log = logging.getLogger(__name__)

TICK_S = 0.5
"""How often everything is looked at even if nothing was announced; a grace period ends silently."""
RETRY_S = 1.0
RING_ROLES = (Role.GATEWAY, Role.API)
"""The members that subscribe and publish."""
_WRITE_ATTEMPTS = 5

Change = Callable[[RingState | None], RingState]


class RingKeeper:
    """One keeper of the ring that ``discovery`` holds; ``probes`` must be entered, and is fed by :meth:`run`.

    ``announce`` is called when this keeper begins or ceases to lead.
    """

    def __init__(
        self,
        discovery: Discovery,
        keeper_id: str,
        probes: Probes,
        rules: Rules,
        *,
        now_ms: Clock,
        announce: Callable[[bool], Awaitable[None]],
    ) -> None:
        self.ring: RingState | None = None
        self.members: dict[Role, Mapping[str, Member]] = {}
        self.leading = False
        self.next_action: Action = Wait("there is no ring yet")
        self._decided_on: RingState | None = None
        self.action_counts: Counter[str] = Counter()
        self.conflicts_count = 0
        self._discovery = discovery
        self._id = keeper_id
        self._probes = probes
        self._rules = rules
        self._now_ms = now_ms
        self._announce = announce
        self._changed = asyncio.Event()
        self._looked = asyncio.Event()

    @property
    def users(self) -> list[Member]:
        """The live members that use the ring, by role and id."""
        return [member for role in RING_ROLES for _, member in sorted(self.members.get(role, {}).items())]

    @property
    def refused_rings(self) -> int:
        """How many rings discovery has refused."""
        return self._discovery.refused_rings

    def not_ready(self) -> str | None:
        """Say why this keeper is of no use yet, ``None`` if it is."""
        return "the members are not known yet" if len(self.members) < len(RING_ROLES) + 1 else None

    def view(self) -> View | None:
        """Return what this keeper knows now, ``None`` without a ring."""
        if self.ring is None:
            return None
        nodes = {**(self.ring.previous or {}), **(self.ring.pending or {}), **self.ring.nodes}
        return View(
            self.ring,
            self.users,
            self._probes.unreachable(nodes),
            self._probes.answering(self.ring.spares),
            asyncio.get_running_loop().time(),
        )

    def unreachable_votes(self) -> dict[str, int]:
        """Return how many report each slot of the ring as unreachable."""
        view = self.view()
        return {} if view is None else {slot: votes(view, slot) for slot in view.ring.nodes}

    async def run(self) -> None:
        """Watch, stand for election and drive, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_ring(), name="ring")
            for role in (*RING_ROLES, Role.RING_KEEPER):
                tasks.create_task(self._follow_members(role), name=f"members {role.value}")
            tasks.create_task(self._look(), name="look")
            tasks.create_task(self._stand(), name="election")

    async def read(self) -> RingState | None:
        """Return the present ring; what is stored and refused is used by nobody, so then it is the one in force.

        Raises:
            RingError: what is stored is no ring, and none is in force.
            StoreUnavailable: discovery does not answer.
        """
        try:
            return await self._discovery.read_ring()
        except RingError:
            if self.ring is None:
                raise
            return self.ring

    async def change(self, change: Change, action: str, reason: str, actor: str) -> RingState:
        """Write what ``change`` makes of the present ring (``None``: there is none) and record it as ``action``.

        If somebody else changes the ring meanwhile, ``change`` is asked again.

        Raises:
            RingRefused: by ``change``, or because others kept changing the ring.
            RingError: what is there is no ring, or what ``change`` made is none.
            StoreUnavailable: discovery does not answer; it may or may not be written.
        """
        for _ in range(_WRITE_ATTEMPTS):
            present = await self.read()
            ring = change(present)
            with contextlib.suppress(RingConflict):
                await self._write(ring, present, action, reason, actor)
                return ring
            self.conflicts_count += 1
        raise RingRefused("busy", "others keep changing the ring; try again")

    # ------------------------------------------------------------------------------------ watching

    async def _follow_ring(self) -> None:
        async for ring in self._discovery.watch_ring():
            self._take(ring)

    async def _follow_members(self, role: Role) -> None:
        async for members in self._discovery.watch_members(role):
            self.members[role] = members
            self._changed.set()

    def _take(self, ring: RingState) -> None:
        self.ring = ring
        self._probes.follow(ring)
        self._changed.set()

    async def _look(self) -> None:
        """Decide anew after each change and each tick, so that the rules know the past when this keeper is elected."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._changed.wait()
            self._changed.clear()
            view = self.view()
            if view is not None and len(self.members) > len(RING_ROLES):
                self._decide(view)
            self._looked.set()

    def _decide(self, view: View) -> None:
        action = self._rules.decide(view)
        if action != self.next_action and self.leading:
            log.info("next: %s: %s", name_of(action), action.reason)
        self.next_action, self._decided_on = action, view.ring

    # ------------------------------------------------------------------------------------- leading

    async def _stand(self) -> None:
        while True:
            try:
                async with self._leadership() as leadership:
                    await self._drive(leadership)
            except StoreUnavailable as error:
                log.warning("%s", error)
                await asyncio.sleep(RETRY_S)

    @contextlib.asynccontextmanager
    async def _leadership(self) -> AsyncIterator[Leadership]:
        async with self._discovery.leadership(self._id) as leadership:
            log.info("%s leads", self._id)
            self.leading = True
            await self._announce(True)
            try:
                yield leadership
            finally:
                self.leading = False
                log.info("%s leads no longer", self._id)
        await self._announce(False)

    async def _drive(self, leadership: Leadership) -> None:
        async with asyncio.TaskGroup() as tasks:
            driving = tasks.create_task(self._act_on_each_look(leadership), name="drive")
            await leadership.wait_lost()
            driving.cancel()

    async def _act_on_each_look(self, leadership: Leadership) -> None:
        while True:
            self._looked.clear()
            await self._looked.wait()
            # The ring that was decided on; the present one may be another by now.
            ring, action = self._decided_on, self.next_action
            if ring is None or leadership.lost or isinstance(action, Wait):
                continue
            try:
                await self._act(ring, action)
            except (RingConflict, RingRefused) as error:
                self.conflicts_count += 1
                log.info("%s came too late: %s", name_of(action), error)
                await self._read_again()
            except (RingError, StoreUnavailable) as error:
                log.warning("cannot %s: %s", name_of(action), error)
                await asyncio.sleep(RETRY_S)

    async def _act(self, ring: RingState, action: Commit | Finish | Abort | Replace) -> None:
        match action:
            case Commit():
                changed = plan.commit(ring)
            case Finish():
                changed = plan.finish(ring)
            case Abort():
                changed = plan.abort(ring)
            case Replace():
                changed = plan.replace(ring, action.slot, action.spare)
            case _:
                assert_never(action)
        reason = f"{action.reason}; {action.spare} takes over" if isinstance(action, Replace) else action.reason
        await self._write(changed, ring, name_of(action), reason, self._id)

    async def _read_again(self) -> None:
        try:
            ring = await self.read()
        except (RingError, StoreUnavailable) as error:
            log.warning("cannot read the ring: %s", error)
            await asyncio.sleep(RETRY_S)
        else:
            if ring is not None:
                self._take(ring)

    async def _write(self, ring: RingState, expected: RingState | None, action: str, reason: str, actor: str) -> None:
        await self._discovery.write_ring(ring, expected=expected)
        self._take(ring)
        self.action_counts[action] += 1
        log.info("ring %d: %s by %s: %s", ring.epoch, action, actor, reason)
        try:
            await self._discovery.record_action(RingAction(self._now_ms(), ring.epoch, action, reason, actor))
        except StoreUnavailable as error:
            log.warning("the action is not recorded: %s", error)


def name_of(action: Action) -> str:
    """Return what ``action`` is called in the history."""
    return type(action).__name__.lower()
