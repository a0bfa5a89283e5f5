"""Start processes, start them again when they die, stop them.

Invariant: no process outlives its supervisor. Each is among ``Supervisor.children`` from before it exists;
:meth:`Supervisor.stop` ends it, and the kernel does if this process is killed (see ``parent_death``).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cli.up.backoff import Backoff
from cli.up.errors import ProcessFailed
from cli.up.parent_death import end_with_parent
from nearby.ports import Sleep

STOP_TIMEOUT_S = 5.0
"""How long a process may take to end after SIGTERM before it is killed."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute. Without a ``log`` the process writes to our terminal. ``environ`` is its whole environment.

    Without ``restart`` its death is told and nothing more, once everything has been running.
    ``may_retire``: an exit with status 0 is wanted, and not repaired.
    """

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str] = field(repr=False)
    log: Path | None
    on_parent_death: signal.Signals = signal.SIGKILL
    restart: bool = True
    may_retire: bool = False


class Child:
    """One supervised process and its successors. ``pid`` is 0 before the first; a ``retired`` one has none to come."""

    def __init__(self, command: Command, backoff: Backoff) -> None:
        self.command = command
        self.backoff = backoff
        self.process: asyncio.subprocess.Process | None = None
        self.watch: asyncio.Task[None] | None = None
        self.retired = False

    @property
    def pid(self) -> int:
        """The process id of the present process, or of the last one."""
        return self.process.pid if self.process else 0

    def kill(self) -> None:
        """Send SIGKILL if the process is running."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()

    async def end(self) -> None:
        """Stop the process: SIGTERM, then SIGKILL after :data:`STOP_TIMEOUT_S`. It is gone when this returns."""
        if self.watch is not None:
            self.watch.cancel()
            await asyncio.wait([self.watch])
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.process.wait()
        self.kill()
        await self.process.wait()


class Supervisor:
    """Runs processes within the task group ``tasks``; call from the event loop of the main thread.

    ``say`` takes what happens to them, a line at a time; ``on_change`` is called with the name after each new start
    and retirement.
    ``inherited_fds`` stay open in every process. ``children`` are the processes by name, ended ones too.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        say: Say,
        *,
        on_change: Callable[[str], None] = lambda _: None,
        backoff: Callable[[], Backoff] = Backoff,
        inherited_fds: Sequence[int] = (),
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._tasks = tasks
        self._say = say
        self._on_change = on_change
        self._backoff = backoff
        self._inherited_fds = tuple(inherited_fds)
        self._sleep = sleep
        self._restarting = False
        self.children: dict[str, Child] = {}

    async def start(self, command: Command) -> Child:
        """Start a process and watch over it.

        If it dies, it is started again once :meth:`restart_from_now_on` has been called;
        before that its death ends the task group with :class:`ProcessFailed`.
        """
        child = await self._first_start(command)
        child.watch = self._tasks.create_task(self._keep_alive(child), name=f"supervise {command.name}")
        return child

    async def start_once(self, command: Command) -> Child:
        """Start a process that may end; its end is said and nothing more."""
        child = await self._first_start(command)
        child.watch = self._tasks.create_task(self._tell_end(child), name=f"watch {command.name}")
        return child

    async def run(self, command: Command) -> None:
        """Run a process to its end. Cancellation leaves it to :meth:`stop`.

        Raises:
            ProcessFailed: its exit status was not 0.
        """
        child = await self._first_start(command)
        assert child.process is not None
        status = await child.process.wait()
        if status:
            raise _failed(command, status)

    def restart_from_now_on(self) -> None:
        """Take a death as something to repair: everything has been running once."""
        self._restarting = True

    async def stop(self, names: Collection[str], hurry: asyncio.Event) -> None:
        """Stop the named processes together; none of them is left when this returns.

        Names of processes that were never started are passed over. ``hurry`` kills instead of waiting.
        """
        children = [self.children[name] for name in names if name in self.children]
        async with asyncio.TaskGroup() as outer:
            impatience = outer.create_task(_kill_when(hurry, children), name="kill on a second signal")
            async with asyncio.TaskGroup() as endings:
                for child in children:
                    endings.create_task(child.end(), name=f"stop {child.command.name}")
            impatience.cancel()

    async def _first_start(self, command: Command) -> Child:
        child = self.children[command.name] = Child(command, self._backoff())
        await self._spawn(child)
        return child

    async def _spawn(self, child: Child) -> None:
        command = child.command
        with contextlib.ExitStack() as files:
            output: IO[bytes] | None = files.enter_context(command.log.open("ab")) if command.log else None
            child.process = await asyncio.create_subprocess_exec(
                *command.argv,
                env=command.environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT if output else None,
                # Its own session: Ctrl-C at the terminal reaches `nearby up` alone, which stops the rest in order.
                start_new_session=True,
                pass_fds=self._inherited_fds,
                preexec_fn=end_with_parent(command.on_parent_death),
            )

    async def _keep_alive(self, child: Child) -> None:
        clock = asyncio.get_running_loop().time
        name = child.command.name
        while True:
            assert child.process is not None
            started_s = clock()
            status = await child.process.wait()
            if not self._restarting:
                raise _failed(child.command, status)
            if status == 0 and child.command.may_retire:
                child.retired = True
                self._say(f"{name} is drained and has ended; it stays away until the next `nearby up`")
                self._on_change(name)
                return
            if not child.command.restart:
                self._say(f"{name} {describe_exit(status)}; it is left dead")
                return
            delay_s = child.backoff.after(clock() - started_s)
            self._say(f"{name} {describe_exit(status)}; starting it again in {delay_s:g} s")
            await self._sleep(delay_s)
            await self._spawn(child)
            self._say(f"{name} is started again, pid {child.pid}")
            self._on_change(name)

    async def _tell_end(self, child: Child) -> None:
        assert child.process is not None
        status = await child.process.wait()
        self._say(f"{child.command.name} {describe_exit(status)}")


async def _kill_when(hurry: asyncio.Event, children: Collection[Child]) -> None:
    await hurry.wait()
    for child in children:
        child.kill()


def describe_exit(status: int) -> str:
    """Say in words what an exit status means; a negative one is the signal that killed the process."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _failed(command: Command, status: int) -> ProcessFailed:
    # Status 2 is what our processes say of a wrong setting or a taken port; we pass it on.
    return ProcessFailed(command.name, describe_exit(status), command.log, 2 if status == 2 else 1)
