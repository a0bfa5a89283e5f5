"""The options of the load test, beside Locust's own."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from loadtest.scenarios import CITY_AREA, SCENARIOS, USUAL_AREA
from loadtest.verdict import Slo

_SCENARIOS_HELP = (
    "steady: --users people all the time; ramp: ten steps up to them; storm: all connections drop at half-time; "
    "celebrity: one person of each process is everybody's friend; city: two rush hours in a crowded place."
)


def add_options(parser: ArgumentParser, **_: object) -> None:
    """Add the options to those of ``parser``, Locust's or another."""
    people = parser.add_argument_group("nearby: who is there", "Give the API with --host, and --users, --spawn-rate.")
    people.add_argument("--scenario", choices=sorted(SCENARIOS), default="steady", help=_SCENARIOS_HELP)
    people.add_argument("--friends", type=int, default=8, help="Friends of each, in the same process.")
    people.add_argument("--interval", type=_above_zero, default=5.0, help="Seconds between two reports of one phone.")
    people.add_argument("--radius", type=float, default=0.0, help="Metres that everybody sees; 0: the server's choice.")
    people.add_argument("--center", default="41.88,-87.63", help="LAT,LON of where they walk, degrees.")
    people.add_argument("--gateway", default="", help="Connect to this ws:// URL, not to those that the API names.")
    people.add_argument("--people", default="", help="A file by `python -m loadtest.seed`, so that nobody signs up.")
    slo = parser.add_argument_group("nearby: the goals", "Where one is missed, Locust ends with 3.")
    slo.add_argument("--slo-screen-ms", type=float, default=2000.0, help="A report is on a friend's screen by then.")
    slo.add_argument("--slo-screen-percent", type=float, default=99.0, help="So many of them.")
    slo.add_argument("--slo-connect-ms", type=float, default=10000.0, help="Who wants to be connected is, by then.")
    slo.add_argument("--slo-connect-percent", type=float, default=99.0, help="So many of them.")
    slo.add_argument("--slo-error-percent", type=float, default=1.0, help="REST calls and reports that may fail.")


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if value <= 0:
        raise ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def slo_of(options: Namespace) -> Slo:
    """Return the goals that were chosen."""
    return Slo(
        options.slo_screen_ms,
        options.slo_screen_percent,
        options.slo_connect_ms,
        options.slo_connect_percent,
        options.slo_error_percent,
    )


def area_of(options: Namespace, radius_m: float) -> tuple[float, float, float]:
    """Return latitude, longitude (degrees) and radius (metres) of where people walk who see ``radius_m`` metres."""
    lat_deg, lon_deg = (float(part) for part in options.center.split(","))
    share = CITY_AREA if options.scenario == "city" else USUAL_AREA
    return lat_deg, lon_deg, share * radius_m
