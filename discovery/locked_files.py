"""Files under ``flock``: the kernel drops a lock when its holder dies, however it dies.

Blocking code, called in threads. A lock belongs to an open file, so two holders in one process exclude each other
as two processes do.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

LOCK_TIMEOUT_S = 5.0
"""How long to wait for a lock that others hold for the length of a rename; longer means a frozen process."""
_RETRY_S = 0.01


@contextlib.contextmanager
def exclusive(path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the lock file ``path``, making it if it is missing.

    Raises:
        TimeoutError: somebody held it for ``timeout_s`` seconds; 0 tries once.
        OSError: the folder is missing or not writable.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + timeout_s
        while not try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path} stayed locked for {timeout_s} s")
            time.sleep(_RETRY_S)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file unless somebody else holds it; return whether it is ours now."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def replace(path: Path, data: bytes, *, durable: bool) -> int:
    """Put ``data`` in place of the file ``path`` at once; return its descriptor, locked by us.

    Readers see the whole old or the whole new file; if ``durable``, even after a power loss. The caller
    closes the descriptor, and holds :func:`exclusive` where several may replace the same file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, data)
        if durable:
            os.fsync(descriptor)
        temporary.rename(path)
        if durable:
            _sync_directory(path.parent)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_file(path: Path, descriptor: int) -> bool:
    """Whether ``path`` still names the open file ``descriptor``."""
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
