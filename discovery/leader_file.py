"""Leadership as the lock of a file, which its holder lets go of by leaving or dying.

Blocking code, called in threads.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from discovery.locked_files import is_file, try_lock


class LeaderFile:
    """One candidate for the lock of the file ``path``. Its methods may be called from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._closed = False
        self._busy = threading.Lock()

    def try_take(self, member_id: str) -> bool:
        """Lock the file, making it if it is missing, unless somebody else holds it; return whether it is ours now.

        Raises:
            OSError: the folder cannot be made or written.
        """
        with self._busy:
            if self._closed:
                return False
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            # The file may have been removed between opening and locking it: then its lock means nothing.
            if not try_lock(descriptor) or not is_file(self._path, descriptor):
                os.close(descriptor)
                return False
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{member_id}\n".encode(), 0)
            self._descriptor = descriptor
            return True

    def held(self) -> bool:
        """Whether the file is ours, which ends when it is removed or its folder is away."""
        with self._busy:
            try:
                return self._descriptor is not None and is_file(self._path, self._descriptor)
            except OSError:
                return False

    def let_go(self) -> None:
        """Unlock the file; it is never locked again. Idempotent."""
        with self._busy:
            self._closed = True
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
