"""A load test of a stack started for it alone: ``python -m loadtest`` with any of Locust's options."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from loadtest.arguments import add_options
from tests.support.stack import running_stack

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
SMALL = ["--users", "40", "--spawn-rate", "10", "--run-time", "30s", "--interval", "1"]

_HELP = """\
Phones that hold connections, report where they are, and time what reaches their friends' screens.

Starts a stack for this test alone, with forty people for half a minute; every option of Locust and those below may be
added. Ends with 0 if all goals were met, with 3 if one was missed.

Examples:
  python -m loadtest                                   a small run
  python -m loadtest --scenario storm --users 200      everybody comes back at once
  python -m loadtest --users 400 --processes 2 --html report.html
                                                       two processes, and graphs to look at
  locust -f loadtest/locustfile.py --headless --host http://127.0.0.1:8080 --users 500 --spawn-rate 20 --run-time 5m
                                                       a stack that runs already
  locust -f loadtest/locustfile.py --host http://127.0.0.1:8080
                                                       the same, steered from a browser
  locust --help                                        Locust's own options

What each number means: docs/load-testing.md
"""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


async def main(arguments: list[str]) -> int:
    """Start the stack, run Locust without a browser, stop the stack; return Locust's exit status."""
    with tempfile.TemporaryDirectory() as directory:
        async with running_stack(Path(directory)) as stack:
            locust = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"),
                *("--host", stack.api_url, *SMALL, *arguments),
                stdin=asyncio.subprocess.DEVNULL,
            )
            return await locust.wait()


def explain() -> None:
    """Print the options of this load test, which Locust's own ``--help`` leaves out."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest", description=_HELP, add_help=False, formatter_class=_HelpFormatter
    )
    add_options(parser)
    parser.print_help()


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv):
        explain()
    else:
        sys.exit(asyncio.run(main(sys.argv[1:])))
