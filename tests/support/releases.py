"""Two versions of this repository beside each other: an earlier commit, unpacked, and the tree as it is.

Processes of a stack find their code by a link, as they would by an image tag: move the link, end a process, and what is
started in its place is of the other version. Each resolves the link once, as it starts, so none is ever of both.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PREVIOUS = os.environ.get("NEARBY_TEST_PREVIOUS", "d356fa8ac4de0396dbcbd49984acacbbff13e475")
"""The commit to upgrade from."""

_SITECUSTOMIZE = """
import os, pathlib, sys
link = os.environ["NEARBY_TEST_RELEASE"]
release = os.path.realpath(link)
sys.path[:] = [release if path == link else path for path in sys.path]
pathlib.Path(os.environ["NEARBY_TEST_RELEASES_RUN"], str(os.getpid())).write_text(release)
"""


class Releases:
    """The previous version and the present one, and a link to the one that processes are started from."""

    def __init__(self, directory: Path) -> None:
        self.previous = directory / "previous"
        self.present = ROOT
        self._link = directory / "current"
        self._site = directory / "site"
        self._run = directory / "run"
        for each in (self.previous, self._site, self._run):
            each.mkdir(parents=True)
        (self._site / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        _unpack(PREVIOUS, self.previous)
        self._link.symlink_to(self.previous)

    @property
    def environ(self) -> Mapping[str, str]:
        """What makes Python start from the link, and nowhere else."""
        return {
            "PYTHONPATH": f"{self._site}:{self._link}",
            "PYTHONSAFEPATH": "1",
            "NEARBY_TEST_RELEASE": str(self._link),
            "NEARBY_TEST_RELEASES_RUN": str(self._run),
        }

    def switch(self) -> None:
        """Let whatever starts from now on be of the present version."""
        new = self._link.with_name("next")
        new.symlink_to(self.present)
        new.replace(self._link)

    def of(self, pid: int) -> Path:
        """Return the version of a running process."""
        return Path((self._run / str(pid)).read_text())


def _unpack(commit: str, directory: Path) -> None:
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=False)
    assert archive.returncode == 0, f"commit {commit} is not here; fetch it: git fetch --unshallow origin"
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(directory, filter="data")
