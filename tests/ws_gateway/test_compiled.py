"""The compiled fan-out passes the tests of the interpreted one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.compiled import compiled_wheel

ROOT = Path(__file__).parents[2]
TESTS = ("test_hub.py", "test_outbox.py", "test_tiers.py", "test_sightings.py")
RUN = """
import sys
import pytest
import ws_gateway.entry, ws_gateway.hub, ws_gateway.outbox, ws_gateway.viewer
for module in (ws_gateway.entry, ws_gateway.hub, ws_gateway.outbox, ws_gateway.viewer):
    assert module.__file__.endswith(".so"), f"{module.__file__} is not compiled"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--import-mode=append", *sys.argv[1:]]))
"""


def test_the_compiled_fan_out_passes_the_tests_of_the_interpreted_one() -> None:
    paths = [str(Path(__file__).with_name(name)) for name in TESTS]
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN, *paths],
        env={**os.environ, "PYTHONPATH": f"{compiled_wheel()}{os.pathsep}{ROOT}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
