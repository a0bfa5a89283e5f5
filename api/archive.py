"""A zip archive that is written front to back and handed out in parts, so that it is never held whole. Blocks."""

from __future__ import annotations

import zipfile
from types import TracebackType
from typing import IO

PART_BYTES = 262_144


class Archive:
    """Files are written one after another; :meth:`take` gives what is finished of the archive so far."""

    def __init__(self) -> None:
        self._out = _Outlet()
        # Without seek() it writes what it would otherwise go back for behind each file (APPNOTE 4.3.9).
        self._zip = zipfile.ZipFile(self._out, "w", zipfile.ZIP_DEFLATED)

    def file(self, name: str) -> IO[bytes]:
        """Begin the file ``name``; it is to be closed before the next one begins."""
        return self._zip.open(name, "w", force_zip64=True)

    def take(self, *, least_bytes: int = PART_BYTES) -> bytes:
        """Return what was written since the last call, if that is ``least_bytes`` or more; else nothing."""
        return self._out.take() if len(self._out.waiting) >= least_bytes else b""

    def close(self) -> None:
        """End the archive; the rest is there to be taken."""
        self._zip.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()


class _Outlet:
    """Takes what the archive writes, which can do nothing else with it."""

    def __init__(self) -> None:
        self.waiting = bytearray()

    def write(self, data: bytes) -> int:
        self.waiting += data
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        taken = bytes(self.waiting)
        self.waiting.clear()
        return taken
