"""The load test: ``locust -f loadtest/locustfile.py --headless --host http://127.0.0.1:8080 …``; see --help.

What phones do is in ``phone.py``, what counts as good in ``verdict.py``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from locust import LoadTestShape, events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtest.arguments import add_options, slo_of
from loadtest.churn import FriendChurn
from loadtest.people import People
from loadtest.phone import Phone
from loadtest.scenarios import Schedule
from loadtest.screens import Screens
from loadtest.verdict import EXIT_MISSED, goals, lines

__all__ = ["FriendChurn", "Phone", "Scenario"]

_DROP_ALL = "drop_all"


class Scenario(LoadTestShape):
    """Follows the scenario that was chosen, with --users at most, until --run-time is over."""

    use_common_options = True
    _schedule: Schedule | None = None

    def reset_time(self) -> None:
        """Begin anew, as the browser may ask for."""
        self.start_time = time.perf_counter()
        self._schedule = None

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there should be now and how many may come each second; ``None`` at the end."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        if self._schedule is None:
            self._schedule = Schedule(options.scenario, options.num_users or 1, float(options.run_time or 0))
        elapsed_s = time.perf_counter() - self.start_time
        people = self._schedule.people(elapsed_s)
        if people is None:
            return None
        if self._schedule.storm_breaks(elapsed_s):
            self.runner.send_message(_DROP_ALL)
        return people, options.spawn_rate or 1


def _prepare(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    assert options is not None
    Phone.screens = Screens()
    Phone.people = People(options.friends, celebrity=options.scenario == "celebrity")
    if environment.runner is not None and not isinstance(environment.runner, MasterRunner):
        environment.runner.register_message(_DROP_ALL, _drop_all)


def _seat_people(environment: Environment, **_: Any) -> None:
    options, runner = environment.parsed_options, environment.runner
    assert options is not None
    if options.people and not Phone.people.seeded and not isinstance(runner, MasterRunner):
        part = runner.worker_index if isinstance(runner, WorkerRunner) else 0
        parts = (options.processes or options.expect_workers) if isinstance(runner, WorkerRunner) else 1
        Phone.people.load(Path(options.people), part, parts)


def _judge(environment: Environment, **_: Any) -> None:
    if isinstance(environment.runner, WorkerRunner):
        return
    assert environment.parsed_options is not None
    judged = goals(environment.stats, slo_of(environment.parsed_options))
    sys.stdout.write("\n".join(["", "Verdict", *lines(environment.stats, judged), ""]))
    sys.stdout.flush()
    environment.process_exit_code = 0 if all(goal.met for goal in judged) else EXIT_MISSED


def _drop_all(environment: Environment, **_: Any) -> None:
    for phone in list(Phone.switched_on):
        phone.drop()


events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(_prepare)
events.test_start.add_listener(_seat_people)
events.quitting.add_listener(_judge)
