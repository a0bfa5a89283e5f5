"""Why a stack does not come up. Each is told in plain lines, without a traceback."""

from __future__ import annotations

from pathlib import Path

from nearby.errors import NearbyError

TAIL_LINES = 20


class StartError(NearbyError):
    """The stack cannot start; ``exit_status`` is 2 where the caller must change something first."""

    def __init__(self, message: str, exit_status: int = 1) -> None:
        self.exit_status = exit_status
        super().__init__(message)


class ProcessFailed(StartError):
    """A process ended, or was not ready in time, while the stack was starting. Its ``log`` may say why."""

    def __init__(self, name: str, what: str, log: Path | None, exit_status: int = 1) -> None:
        self.name = name
        self.log = log
        super().__init__(f"{name} {what}", exit_status)


def tail(log: Path) -> list[str]:
    """Return the last :data:`TAIL_LINES` lines of a log; none if there is no log."""
    try:
        return log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    except FileNotFoundError:
        return []
