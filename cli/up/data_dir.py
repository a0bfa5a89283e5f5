"""The data directory of a stack: made, locked for one ``nearby up`` at a time, and its folders with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.up.errors import StartError
from cli.up.plan import Layout, socket_paths_fit

DEFAULT_DATA_DIR = Path(".nearby")

_LAST_ONES_TIMEOUT_S = 5.0
"""How long to wait for the processes of a `nearby up` that was killed: the kernel has told them to end."""


@contextmanager
def open_data_dir(chosen: Path | None, *, ephemeral: bool) -> Iterator[tuple[Layout, int]]:
    """Yield the layout of a data directory that is ours alone, and the descriptor of its lock.

    The processes of the stack inherit the descriptor, so the directory stays locked until the last of them is gone.
    An ``ephemeral`` directory that nobody has ``chosen`` is temporary.

    Raises:
        StartError: another stack uses it, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        if chosen is None and ephemeral:
            data_dir = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="nearby-", ignore_cleanup_errors=True))
            )
        else:
            data_dir = (chosen or DEFAULT_DATA_DIR).absolute()
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = stack.enter_context(_locked(data_dir / "lock", data_dir))
            run_dir = stack.enter_context(_run_dir(data_dir))
            layout = Layout(data_dir, run_dir)
            _prepare(layout)
        except OSError as error:
            raise StartError(f"--data-dir {data_dir} cannot be used: {error.strerror}", 2) from error
        yield layout, lock


@contextmanager
def _locked(path: Path, data_dir: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + _LAST_ONES_TIMEOUT_S
        while not _try_lock(descriptor):
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            if _alive(holder):
                message = f"another `nearby up` (pid {holder}) runs on {data_dir}"
                raise StartError(f"{message}; stop it, or choose another --data-dir", 2)
            if time.monotonic() > deadline:
                message = f"processes of an earlier `nearby up` (pid {holder or 'unknown'}) still run on {data_dir}"
                raise StartError(f"{message}; stop them, or choose another --data-dir", 2)
            time.sleep(0.02)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _run_dir(data_dir: Path) -> Iterator[Path]:
    """Yield the folder of the sockets: in the data directory, or a temporary one if its path is too long."""
    run_dir = data_dir / "run"
    if socket_paths_fit(run_dir):
        run_dir.mkdir(mode=0o700, exist_ok=True)
        run_dir.chmod(0o700)
        yield run_dir
        return
    with tempfile.TemporaryDirectory(prefix="nearby-", ignore_cleanup_errors=True) as temporary:
        yield Path(temporary)


def _prepare(layout: Layout) -> None:
    layout.stack_file.unlink(missing_ok=True)  # of a stack that was killed
    shutil.rmtree(layout.logs_dir, ignore_errors=True)
    layout.logs_dir.mkdir(mode=0o700)
    layout.cache_dir.mkdir(mode=0o700, exist_ok=True)
