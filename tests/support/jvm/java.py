"""Where Java 17 and the servers that run on it are; as a script, tell in one line if something is missing."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

JARS = Path(__file__).resolve().parents[3] / "build" / "jars"
INSTALL = "install it: apt-get install openjdk-17-jdk-headless maven"


class Missing(Exception):
    """Something that these tests need is not installed; the message says what and how to get it."""


@functools.cache
def java17() -> Path:
    """Return the ``java`` of Java 17; newer ones do not run every server of ours.

    Raises:
        Missing: there is none in ``JAVA_HOME``, in ``/usr/lib/jvm`` or on the path.
    """
    for candidate in _candidates():
        if _is_17(candidate):
            return candidate
    raise Missing(f"Java 17 is missing; {INSTALL}")


def classpath() -> str:
    """Return the class path of every server.

    Raises:
        Missing: the jars have not been fetched.
    """
    if not any(JARS.glob("*.jar")):
        raise Missing(f"there are no jars in {JARS}; fetch them: make jars")
    return f"{JARS}/*"


def _candidates() -> Iterator[Path]:
    if "JAVA_HOME" in os.environ:
        yield Path(os.environ["JAVA_HOME"]) / "bin" / "java"
    yield from sorted(Path("/usr/lib/jvm").glob("*17*/bin/java"))
    on_path = shutil.which("java")
    if on_path is not None:
        yield Path(on_path)


def _is_17(java: Path) -> bool:
    if not java.exists():
        return False
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    return 'version "17.' in answer.stderr


if __name__ == "__main__":
    try:
        java17()
        if shutil.which("mvn") is None:
            raise Missing(f"Maven is missing; {INSTALL}")
    except Missing as missing:
        sys.exit(f"the tests need ZooKeeper: {missing}")
