"""Members as files ``ROLE/ID.json``, alive as long as their owner holds the lock of its file.

Blocking code, called in threads. Invariant: a member's file is renamed into place or deleted only under the
lock of its role's folder, so nobody deletes the file of a member that has just come back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from urllib.parse import quote

import msgspec

from discovery.codec import decode_member, encode_member
from discovery.locked_files import exclusive, is_file, replace, try_lock
from nearby.ports import Member, Role

_log = logging.getLogger(__name__)

_LOCK = ".lock"
_READ_ATTEMPTS = 3


def role_directory(directory: Path, role: Role) -> Path:
    """Return the folder of the members of ``role``."""
    return directory / "members" / role.value


class MemberFile:
    """This process's own file. Its methods may be called from several threads."""

    def __init__(self, directory: Path, member: Member) -> None:
        self._folder = role_directory(directory, member.role)
        # Percent-encoded, so that an id cannot leave its folder.
        self._path = self._folder / f"{quote(member.member_id, safe='')}.json"
        self._member = member
        self._descriptor: int | None = None
        self._closed = False
        self._busy = threading.Lock()

    def announce(self, member: Member) -> None:
        """Replace what the file says, taking the place of a ghost of the same id.

        A newer process that took our id keeps it: then nothing is written.

        Raises:
            OSError: the folder is away; :meth:`renew` will write ``member`` later.
        """
        with self._busy:
            self._member = member
            self._write()

    def renew(self) -> None:
        """Write the file again if somebody removed it.

        Raises:
            OSError: the folder is away.
        """
        with self._busy:
            if self._descriptor is None or not self._path.exists():
                self._write()

    def withdraw(self) -> None:
        """Remove the file if it is still ours and let go of it. Idempotent; the file is never written again."""
        with self._busy:
            self._closed = True
            if self._descriptor is None:
                return
            try:
                with exclusive(self._folder / _LOCK):
                    if is_file(self._path, self._descriptor):
                        self._path.unlink()
            except OSError as error:
                _log.warning("member file %s was left behind: %s", self._path, error)
            finally:
                os.close(self._descriptor)
                self._descriptor = None

    def _write(self) -> None:
        if self._closed:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self._folder / _LOCK):
            if self._descriptor is not None and self._path.exists() and not is_file(self._path, self._descriptor):
                _log.warning("another process took the member id %s", self._member.member_id)
                return
            # Not durable: no member outlives the power.
            written = replace(self._path, encode_member(self._member), durable=False)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = written


def live_members(directory: Path, role: Role) -> dict[str, Member]:
    """Return the members of ``role`` whose owners live, by id, and delete the files of the dead.

    Raises:
        OSError: ``directory`` is away, so nothing is known; with no folder for the role there are none.
    """
    folder = role_directory(directory, role)
    if not folder.is_dir():
        directory.stat()
        return {}
    found: dict[str, Member] = {}
    for path in sorted(folder.glob("*.json")):
        data = _read_if_live(path)
        if data is None:
            continue
        try:
            member = decode_member(data)
        except msgspec.MsgspecError as error:
            # As a newer process might write during a rolling upgrade; the others are still good.
            _log.warning("member file %s is not readable: %s", path, error)
            continue
        found[member.member_id] = member
    return found


def _read_if_live(path: Path) -> bytes | None:
    for _ in range(_READ_ATTEMPTS):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        with file:
            if not try_lock(file.fileno(), shared=True):
                return file.read()
            if is_file(path, file.fileno()):
                _bury(path, file.fileno())
                return None
        # Its owner replaced the file between our opening and locking it: look again.
    return None


def _bury(path: Path, descriptor: int) -> None:
    # Somebody else may be busy here; then the next look buries it.
    with contextlib.suppress(TimeoutError), exclusive(path.parent / _LOCK, timeout_s=0):
        if is_file(path, descriptor):
            path.unlink()
