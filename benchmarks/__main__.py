"""All benchmarks: ``make bench``, or ``python -m benchmarks`` with some of their names."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import connections, end_to_end, fan_out, healing, reports, soak, storm
from benchmarks.plot import plot
from benchmarks.processes import split_cores
from benchmarks.references.local import local_references
from benchmarks.results import Results
from benchmarks.run import Options
from benchmarks.subjects import Nearby, Reference, Subject

NAMES = ("fan-out", "connections", "reports", "healing", "end-to-end", "storm")
DESCRIPTION = """\
Measures nearby beside reference servers that do the same work, in the same run. Needs about an hour and a machine that
does nothing else; the server under test has the first core, everything else the others.

  fan-out      (a) CPU per delivery, deliveries per CPU second when flooded, latencies near the limit
  connections  (b) memory of an idle connection, (d) what it costs to connect, and everybody back at once
  reports      (c) what a location report costs that nobody watches
  healing      (e) subscribing again after a pub/sub server was killed
  end-to-end   (f) from the report to the screens of forty friends
  storm        everybody comes back through the limiter, beside others who stay connected
  soak         half load for --minutes; only when it is named

Ratios are to the C sender where it takes part, and to nearby otherwise. Each figure is the median of the rounds, with
the least and the greatest in brackets. Not named here: python -m benchmarks.social_api, the API beside its database's
driver, and python -m benchmarks.history_writer, the writer beside Cassandra's.

Examples:
  python -m benchmarks                              everything
  python -m benchmarks fan-out --sizes 1000         the fan-out alone, at one size
  python -m benchmarks --smoke                      whether all of it works, in a few minutes; the figures mean nothing
  python -m benchmarks soak --minutes 30
"""
SMOKE = Options(rounds=1, seconds=0.5, sizes=(60,))


def main() -> None:
    """Run what the command line asks for, and write table, picture and JSON."""
    options = _parser().parse_args()
    measured = SMOKE if options.smoke else Options(options.rounds, options.seconds, options.sizes)
    results = Results()
    _, others = split_cores()
    os.sched_setaffinity(0, others)
    try:
        asyncio.run(_run(options.names or NAMES, results, measured, options.minutes, options.only))
    finally:
        if results.figures:
            results.show(Console(width=None if sys.stdout.isatty() else 160))
            results.save(options.out.with_suffix(".json"))
            plot(results, options.out.with_suffix(".svg"))
            print(f"{options.out.with_suffix('.json')} and {options.out.with_suffix('.svg')} are written")


async def _run(names: tuple[str, ...], results: Results, options: Options, minutes: int, only: str) -> None:
    references: list[Subject] = [Reference(target) for target in local_references()]

    def chosen(*subjects: Subject) -> list[Subject]:
        return [subject for subject in subjects if only in subject.name]

    for name in names:
        match name:
            case "fan-out":
                interpreted = Nearby("nearby, interpreted", compiled=False)
                await fan_out.run(chosen(Nearby(), interpreted, *references), results, options)
            case "connections":
                compact = Nearby("nearby, compact", two_sides=False, environ={"NEARBY_COMPACT_MEMORY": "1"})
                await connections.run(chosen(Nearby(two_sides=False), compact, *references), results, options)
            case "reports":
                await reports.run(chosen(Nearby(), *_with_reports(2)), results, options)
            case "healing":
                await healing.run(chosen(Nearby(), *references[1:]), results, options)
            case "end-to-end":
                await end_to_end.run(chosen(Nearby(two_sides=False), *_with_reports()), results, options)
            case "storm":
                await storm.run(results, options)
            case "soak":
                await soak.run(results, options, minutes)


def _with_reports(friends: int | None = None) -> list[Subject]:
    """Return the references that take reports, too."""
    targets = local_references() if friends is None else local_references(friends)
    return [
        Reference(target, every=1 if friends is None else friends) for target in targets if target.name == "FastAPI"
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*NAMES, "soak", []], metavar="NAME", help="all but soak if none")
    parser.add_argument("--rounds", type=int, default=3, help="of each figure (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each window (default: %(default)s)")
    parser.add_argument("--sizes", type=_sizes, default=Options().sizes, help="sockets (default: 1000,5000,10000)")
    parser.add_argument("--only", default="", metavar="TEXT", help="measure those servers whose name contains TEXT")
    parser.add_argument("--minutes", type=int, default=30, help="of the soak (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="small sizes, one short round")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks/results"), help="without suffix")
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(word) for word in text.split(","))
    if min(sizes) < 60:
        raise argparse.ArgumentTypeError("sizes are 60 and more: everybody has forty friends")
    return sizes


if __name__ == "__main__":
    main()
