"""``nearby simulate``: the options, the signals and the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json as json_format
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from cli.simulate.people import SimulationFailed
from cli.simulate.replay import ReplayPlan
from cli.simulate.run import CrowdPlan, Stop, run_crowd, run_replay
from cli.simulate.summary import Summary
from cli.simulate.terminal import Terminal
from cli.simulate.tracks import TracksError, read_tracks
from nearby_client import ApiError, ApiUnreachable

DEFAULT_API = "http://127.0.0.1:8080"
_CROWD_FRIENDS = 40
_REPLAY_FRIENDS = 10
_CROWD_SECONDS = 60.0
_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def simulate(
    api: Annotated[str | None, typer.Option(help=f"The API's base URL. [default: {DEFAULT_API}]")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Take the API's URL from the stack.json of a running `nearby up`.")
    ] = None,
    users: Annotated[int, typer.Option(min=2, help="How many people walk about.")] = 200,
    friends: Annotated[int | None, typer.Option(min=1, help="Friends of each. [default: 40, with --tracks 10]")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0, help="How long; 0 until Ctrl-C, or with --tracks to their end. [default: 60, or to the end]"
        ),
    ] = None,
    interval: Annotated[float, typer.Option(min=0.05, help="Seconds between two reports of one person.")] = 5.0,
    center: Annotated[str, typer.Option(help="LAT,LON of the city, degrees.")] = "41.88,-87.63",
    radius_m: Annotated[
        float | None, typer.Option(min=50, max=50_000, help="Radius of everybody, metres. [default: the server's]")
    ] = None,
    area_m: Annotated[
        float | None, typer.Option(min=1, help="Radius of the area they walk in, metres. [default: 0.6 radii]")
    ] = None,
    tracks: Annotated[
        Path | None, typer.Option(help="Replay a CSV with the columns walker, t_s, lat_deg, lon_deg instead.")
    ] = None,
    speedup: Annotated[float, typer.Option(min=0.001, help="How many times as fast as recorded.")] = 120.0,
    walkers: Annotated[int | None, typer.Option(min=2, help="Replay only so many walkers.")] = None,
    hours: Annotated[str, typer.Option(help="Replay only these hours of the day, FROM-TO.")] = "0-24",
    seed: Annotated[int, typer.Option(help="Decides who is whose friend and who walks where.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Draw nothing while it runs.")] = False,
) -> None:
    """Let people walk through a running stack, and check all that they see of each other.

    Exit code 1 if a friend within the radius stays unseen, a stranger or a wrong distance is shown, or a location
    gets older; with --tracks also if anybody enters or leaves in another order than computed by brute force. A
    replay needs a stack with NEARBY_MAX_SPEED_MPS=0 and NEARBY_MESSAGE_RATE=0.
    """
    api_url = _api_url(api, data_dir)
    terminal = Terminal(quiet=quiet)
    if tracks is None:
        crowd = CrowdPlan(
            users,
            friends or _CROWD_FRIENDS,
            _CROWD_SECONDS if seconds is None else seconds,
            interval,
            _pair("--center", center, ","),
            radius_m,
            area_m,
        )
        summary = _run(lambda stop: run_crowd(api_url, crowd, seed, stop, terminal))
    else:
        replay = _replay_plan(tracks, walkers, hours, speedup, seconds or 0, radius_m)
        summary = _run(lambda stop: run_replay(api_url, replay, friends or _REPLAY_FRIENDS, seed, stop, terminal))
    typer.echo(json_format.dumps(summary.as_dict()) if json else "\n".join(summary.lines()))
    if not summary.ok:
        raise typer.Exit(1)


def _replay_plan(
    tracks: Path, walkers: int | None, hours: str, speedup: float, seconds: float, radius_m: float | None
) -> ReplayPlan:
    try:
        fixes = read_tracks(tracks, walkers=walkers, hours=_pair("--hours", hours, "-"))
    except TracksError as error:
        raise typer.BadParameter(str(error)) from error
    return ReplayPlan(fixes, speedup, seconds, radius_m)


def _api_url(api: str | None, data_dir: Path | None) -> str:
    if api is not None:
        return api
    if data_dir is None:
        return DEFAULT_API
    try:
        return str(json_format.loads((data_dir / "stack.json").read_text(encoding="utf-8"))["api_url"])
    except (OSError, ValueError, KeyError) as error:
        raise typer.BadParameter(f"no stack is ready in {data_dir}: {error}") from error


def _pair(option: str, text: str, separator: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.split(separator, 1 if separator == "-" else -1))
    except ValueError as error:
        raise typer.BadParameter(f"{option} is {text!r}; two numbers with {separator!r} between are wanted") from error
    return first, second


def _run(main: Callable[[Stop], Awaitable[Summary]]) -> Summary:
    """Run to the end; what prevents it is told in a line, exit code 1."""
    _raise_file_limit()
    try:
        return uvloop.run(_until_signalled(main))
    except (SimulationFailed, ApiError, ApiUnreachable) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from error
    except asyncio.CancelledError as error:
        raise typer.Exit(_INTERRUPTED) from error


async def _until_signalled(main: Callable[[Stop], Awaitable[Summary]]) -> Summary:
    """Run ``main``; SIGINT or SIGTERM asks it to stop, and a second one, or one too early, ends it where it stands."""
    loop, stop = asyncio.get_running_loop(), Stop()
    task = asyncio.current_task()
    assert task is not None

    def on_signal() -> None:
        if stop.is_set() or not stop.heeded:
            task.cancel()
        stop.set()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, on_signal)
    return await main(stop)


def _raise_file_limit() -> None:
    """Allow as many sockets as the system lets this process have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
