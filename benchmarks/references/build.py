"""Builds the reference servers that are not Python, once per version of their sources, under ``build/benchmarks``."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

SOURCES = Path(__file__).parent
BUILD = SOURCES.parents[1] / "build" / "benchmarks"
C_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")
TIMEOUT_S = 300


def c_program(source: Path) -> Path:
    """Return the program compiled from ``source`` and the headers beside it.

    Raises:
        OSError: there is no gcc.
        subprocess.CalledProcessError: it does not compile; gcc has told why on standard error.
    """

    def compile_into(folder: Path) -> None:
        _run("gcc", *C_FLAGS, "-o", str(folder / source.stem), str(source))

    return built(source.stem, [source, *source.parent.glob("*.h")], compile_into) / source.stem


def node_program() -> Path:
    """Return the ``server.js`` of Socket.IO, with the packages of its lock file beside it.

    Raises:
        OSError: there is no npm.
        subprocess.CalledProcessError: npm failed, and has told why on standard error.
    """
    sources = [SOURCES / "socketio" / name for name in ("package.json", "package-lock.json", "server.js")]

    def install_into(folder: Path) -> None:
        for source in sources:
            shutil.copy(source, folder)
        _run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(folder))

    return built("socketio", sources, install_into) / "server.js"


def built(name: str, sources: list[Path], build_into: Callable[[Path], None]) -> Path:
    """Return the folder of this version of ``sources``, built by the first who asks; several may ask at once."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sorted(sources))).hexdigest()[:16]
    folder = BUILD / f"{name}-{digest}"
    if not folder.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=name, dir=BUILD) as beside:
            build_into(Path(beside))
            try:
                Path(beside).rename(folder)
            except OSError:
                if not folder.exists():
                    raise
            else:
                Path(beside).mkdir()  # for the end of the TemporaryDirectory
    return folder


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
