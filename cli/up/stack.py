"""Start a whole stack in the right order, tell when it is ready, and stop it in the opposite order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cli.up.errors import ProcessFailed
from cli.up.plan import ROLES, STOP_ORDER, Kind, Layout, ProcessSpec, environment, next_ring, with_spare
from cli.up.private_file import write_private_json
from cli.up.readiness import until_ready, until_serving, until_valkey_answers
from cli.up.stack_file import Running, describe
from cli.up.supervisor import Child, Command, Say, Supervisor
from cli.up.terminal import process_line, ready_lines
from discovery.connect import open_discovery
from http_port.process import stop_signals
from nearby.errors import NearbyError, RingConflict, RingError
from nearby.ports import Discovery, RingAction, RingState
from nearby.settings import DiscoverySettings

START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class StackPlan:
    """All that is decided before anything starts. ``simulate`` is the crowd's command line, empty for no crowd.

    Without ``restart_shards`` a pub/sub shard that dies is left to the ring keeper.
    """

    layout: Layout
    lock: int
    specs: Sequence[ProcessSpec]
    migration: Sequence[str]
    simulate: Sequence[str]
    environ: Mapping[str, str] = field(repr=False)
    admin_token: str = field(repr=False)
    discovery: DiscoverySettings
    restart_shards: bool = True


_CROWD = "simulate"
_MIGRATION = "migration"
_RING_SERVERS = (Kind.SHARD, Kind.SPARE)
_OFFER_TIMEOUT_S = 30.0
"""More than a ring keeper takes to replace a shard."""


class _StopRequested(Exception):
    """Somebody pressed Ctrl-C or sent SIGTERM."""


async def run(plan: StackPlan, say: Say) -> None:
    """Run the stack until SIGINT or SIGTERM; a second one kills what has not stopped yet. Nothing is left running.

    Raises:
        ExceptionGroup: of :class:`StartError`, if the stack did not come up.
    """
    async with stop_signals() as stop:
        try:
            async with asyncio.TaskGroup() as tasks:
                await Stack(plan, say, tasks).run(stop)
        except* _StopRequested:
            pass


class Stack:
    """One stack within the task group ``tasks``, in which it also ends."""

    def __init__(self, plan: StackPlan, say: Say, tasks: asyncio.TaskGroup) -> None:
        self._plan = plan
        self._say = say
        self._tasks = tasks
        self._supervisor = Supervisor(tasks, say, on_change=self._on_change, inherited_fds=[plan.lock])
        self._urls: dict[str, str] = {}
        self._lacks: dict[str, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, keep it running until ``stop`` is set, and stop everything."""
        signals = self._tasks.create_task(self._raise_on(stop), name="stop signals")
        try:
            await self._come_up()
            await asyncio.wait([signals])
        finally:
            signals.cancel()
            stop.clear()
            await self._go_down(stop)

    async def _raise_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._say("Stopping; Ctrl-C again kills what has not stopped.")
        raise _StopRequested

    async def _come_up(self) -> None:
        clock = asyncio.get_running_loop().time
        began_s = clock()
        await self._start_all()
        self._supervisor.restart_from_now_on()
        self._write_stack_file()
        for line in ready_lines(self._running(), self._plan.layout.data_dir, clock() - began_s):
            self._say(line)
        if self._plan.simulate:
            await self._supervisor.start_once(Command(_CROWD, self._plan.simulate, self._plan.environ, log=None))

    async def _start_all(self) -> None:
        try:
            async with (
                asyncio.timeout(START_TIMEOUT_S),
                open_discovery(self._plan.discovery) as discovery,
                asyncio.TaskGroup() as starting,
            ):
                starting.create_task(self._start_api(discovery), name="start the API")
                await self._write_ring(discovery)
                async with asyncio.TaskGroup() as servers:
                    for spec in self._of(Kind.SHARD, Kind.SPARE, Kind.CACHE):
                        servers.create_task(self._start_valkey(spec), name=f"start {spec.name}")
                for spec in self._of(Kind.HISTORY_WRITER, Kind.GATEWAY, Kind.RING_KEEPER):
                    starting.create_task(self._start_service(spec, discovery), name=f"start {spec.name}")
        except TimeoutError as error:
            name, lack = next(iter(self._lacks.items()), ("the stack", "is not ready"))
            what = f"did not become ready in {START_TIMEOUT_S:g} s: it {lack}"
            raise ProcessFailed(name, what, self._plan.layout.log(name)) from error

    async def _start_valkey(self, spec: ProcessSpec) -> None:
        await self._start(spec)
        await until_valkey_answers(self._plan.layout.socket(spec.name), self._lacking(spec.name))
        self._is_ready(spec)

    async def _start_api(self, discovery: Discovery) -> None:
        (spec,) = self._of(Kind.API)
        self._lacks[_MIGRATION] = "is still upgrading the user database"
        environ = environment(spec, self._plan.environ)
        await self._supervisor.run(
            Command(_MIGRATION, self._plan.migration, environ, self._plan.layout.log(_MIGRATION))
        )
        del self._lacks[_MIGRATION]
        await self._start_service(spec, discovery)

    async def _start_service(self, spec: ProcessSpec, discovery: Discovery) -> None:
        child = await self._start(spec)
        lacks = self._lacking(spec.name)
        member = await until_serving(discovery, ROLES[spec.kind], child.pid, lacks)
        self._urls[spec.name] = member.url
        await until_ready(spec.admin_url, lacks)
        self._is_ready(spec)

    async def _start(self, spec: ProcessSpec) -> Child:
        command = Command(
            spec.name,
            spec.argv,
            environment(spec, self._plan.environ),
            self._plan.layout.log(spec.name),
            spec.on_parent_death,
            self._plan.restart_shards or spec.kind not in _RING_SERVERS,
            may_retire=spec.kind is Kind.GATEWAY,
        )
        return await self._supervisor.start(command)

    async def _write_ring(self, discovery: Discovery) -> None:
        nodes = {spec.name: spec.address for spec in self._of(Kind.SHARD)}
        stored = await _stored_ring(discovery)
        ring = next_ring(stored, nodes, [spec.address for spec in self._of(Kind.SPARE)])
        if ring is not None:
            await discovery.write_ring(ring, expected=stored)

    async def _go_down(self, hurry: asyncio.Event) -> None:
        try:
            await asyncio.to_thread(self._plan.layout.stack_file.unlink, missing_ok=True)
        finally:
            await self._supervisor.stop([_CROWD, _MIGRATION], hurry)
            for kinds in STOP_ORDER:
                await self._supervisor.stop([spec.name for spec in self._of(*kinds)], hurry)

    def _of(self, *kinds: Kind) -> list[ProcessSpec]:
        return [spec for spec in self._plan.specs if spec.kind in kinds]

    def _lacking(self, name: str) -> Say:
        def lacks(what: str) -> None:
            self._lacks[name] = what

        return lacks

    def _is_ready(self, spec: ProcessSpec) -> None:
        self._lacks.pop(spec.name, None)
        self._say(process_line(self._running_one(spec)))

    def _running_one(self, spec: ProcessSpec) -> Running:
        return Running(spec, self._supervisor.children[spec.name].pid, self._urls.get(spec.name, ""))

    def _running(self) -> list[Running]:
        return [
            self._running_one(spec) for spec in self._plan.specs if not self._supervisor.children[spec.name].retired
        ]

    def _on_change(self, name: str) -> None:
        self._write_stack_file()
        for spec in self._of(*_RING_SERVERS):
            if spec.name == name:
                self._tasks.create_task(self._offer_as_spare(spec), name=f"offer {name} as a spare")

    async def _offer_as_spare(self, spec: ProcessSpec) -> None:
        """Make a server that is back a spare if the keeper has replaced it, or does so within a while."""
        try:
            async with asyncio.timeout(_OFFER_TIMEOUT_S), open_discovery(self._plan.discovery) as discovery:
                await until_valkey_answers(self._plan.layout.socket(spec.name), lambda _: None)
                async for present in discovery.watch_ring():
                    if await _offered(discovery, present, spec):
                        self._say(f"{spec.name} is a spare now: its place in the ring was taken meanwhile")
                        return
        except TimeoutError:
            return  # it kept its place
        except NearbyError as error:
            self._say(f"{spec.name} is not made a spare: {error}")

    def _write_stack_file(self) -> None:
        layout = self._plan.layout
        write_private_json(layout.stack_file, describe(self._running(), layout.cache_url, self._plan.admin_token))


async def _stored_ring(discovery: Discovery) -> RingState | None:
    try:
        return await discovery.read_ring()
    except RingError:
        # Nobody can use what is there.
        return None


async def _offered(discovery: Discovery, present: RingState, spec: ProcessSpec) -> bool:
    """Add the server to the spares unless it is in use; return whether it was added."""
    ring = with_spare(present, spec.address)
    if ring is None:
        return False
    try:
        await discovery.write_ring(ring, expected=present)
    except RingConflict:
        return False  # the watch brings the newer ring
    reason = f"{spec.name} is running again (+{spec.address})"
    await discovery.record_action(RingAction(time.time_ns() // 1_000_000, ring.epoch, "spares", reason, "nearby up"))
    return True
