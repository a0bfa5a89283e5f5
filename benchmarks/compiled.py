"""The project as it is deployed: its wheel, with the fan-out compiled, unpacked beside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from benchmarks.references.build import built

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 300
_NOT_COPIED = shutil.ignore_patterns(".*", "build", "tests", "node_modules")
_HOOK = {"HATCH_BUILD_HOOK_ENABLE_MYPYC": "1"}


def compiled_wheel() -> Path:
    """Return the folder of the unpacked wheel, built if any source has changed; put it first on ``PYTHONPATH``.

    Raises:
        RuntimeError: it does not build; a C compiler and Python's headers are needed.
    """
    sources = [ROOT / "pyproject.toml", *sorted(ROOT.glob("ws_gateway/*.py")), *sorted(ROOT.glob("nearby/*.py"))]

    def build_into(folder: Path) -> None:
        # From a copy: the hook moves files about in the folder in which it builds.
        with tempfile.TemporaryDirectory() as copy, tempfile.TemporaryDirectory() as wheels:
            shutil.copytree(ROOT, copy, ignore=_NOT_COPIED, dirs_exist_ok=True)
            done = subprocess.run(
                [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, copy],
                env={**os.environ, **_HOOK},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(
                    "the wheel does not compile; it needs gcc and Python's headers (apt-get install gcc python3-dev):\n"
                    + done.stdout[-2000:]
                    + done.stderr[-2000:]
                )
            (wheel,) = Path(wheels).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)

    return built("wheel", sources, build_into)
