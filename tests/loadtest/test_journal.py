from __future__ import annotations

import random
from argparse import ArgumentParser, Namespace

import pytest

from loadtest.arguments import add_options
from loadtest.dense.rows import RowSet
from loadtest.journal import End, Journal, retry_after_s
from loadtest.person import Person
from loadtest.screens import LOST_AFTER_S, Screens
from loadtest.verdict import ACK, CLIENT, CONNECT, LATENESS, NEVER, RECONNECT, SCREEN, SESSION, SOCKET
from nearby.close_codes import AfterClose
from nearby.messages import Ack, Error, FriendEntry, SettingsMessage, Snapshot, Update, Welcome

WELCOME = Welcome("c-1", "ann", "gw-1", 0, 30.0, 600.0, 8047.0, 0)
NOON_MS = 1_800_000_000_000


@pytest.fixture
def options() -> Namespace:
    parser = ArgumentParser()
    add_options(parser)
    return parser.parse_args(["--interval", "2"])


@pytest.fixture
def rows() -> RowSet:
    return RowSet()


@pytest.fixture
def screens() -> Screens:
    return Screens()


def journal(
    user_id: str, options: Namespace, screens: Screens, rows: RowSet, now_s: float = 0.0, password: str = ""
) -> Journal:
    person = Person(user_id, "token", password=password)
    return Journal(person, options, screens, rows.count, random.Random(1), now_s)


def entry(user_id: str, updated_at_ms: int) -> FriendEntry:
    return FriendEntry(user_id, 0.0, 0.0, 100, updated_at_ms, "exact")


def test_a_report_is_timed_to_a_friends_screen(options: Namespace, screens: Screens, rows: RowSet) -> None:
    ann, ben = (journal(name, options, screens, rows) for name in ("ann", "ben"))
    ann.welcome(WELCOME, 1.0)
    ben.show(Snapshot([entry("ann", 1)]), 1.0)
    report = ann.report(2.0, NOON_MS)
    assert report.recorded_at_ms == report.seq == NOON_MS
    ben.show(Update([entry("ann", NOON_MS)]), 2.25)
    assert rows.entries[SCREEN, SOCKET].response_times == {250: 1}
    assert not rows.entries[SCREEN, SOCKET].errors


def test_a_report_that_nobody_is_shown_counts_as_that(options: Namespace, screens: Screens, rows: RowSet) -> None:
    ann, ben = (journal(name, options, screens, rows) for name in ("ann", "ben"))
    for phone in (ann, ben):
        phone.welcome(WELCOME, 1.0)
    ben.show(Snapshot([entry("ann", 1)]), 1.0)
    ann.report(2.0, NOON_MS)
    ben.report(2.1 + LOST_AFTER_S, NOON_MS)
    assert rows.entries[SCREEN, SOCKET].errors == {NEVER: 1}


def test_a_lost_connection_excuses_what_was_not_late_yet(options: Namespace, screens: Screens, rows: RowSet) -> None:
    ann, ben = (journal(name, options, screens, rows) for name in ("ann", "ben"))
    ann.welcome(WELCOME, 1.0)
    ben.show(Snapshot([entry("ann", 1)]), 1.0)
    ann.report(2.0, NOON_MS)
    ann.report(3.9, NOON_MS)
    ben.lose(4.1)  # the goal is 2 s
    assert rows.entries[SCREEN, SOCKET].errors == {NEVER: 1}
    ann.report(5.0, NOON_MS)
    ben.lose(100.0)
    assert rows.entries[SCREEN, SOCKET].num_requests == 1


def test_reports_come_at_the_phones_own_moments_whenever_it_connects(
    options: Namespace, screens: Screens, rows: RowSet
) -> None:
    ann = journal("ann", options, screens, rows, now_s=100.0)
    first_s = ann.due_s
    assert 100 <= first_s < 102
    ann.welcome(WELCOME, 107.0)
    ann.report(107.0, NOON_MS)
    assert 107 < ann.due_s <= 109
    assert (ann.due_s - first_s) % 2 == pytest.approx(0)


def test_a_timer_that_rings_early_makes_no_report_more(options: Namespace, screens: Screens, rows: RowSet) -> None:
    ann = journal("ann", options, screens, rows)
    ann.welcome(WELCOME, 0.0)
    due_s = ann.due_s
    ann.report_due(due_s - 0.001, NOON_MS)
    assert ann.due_s == due_s + 2
    ann.report_due(due_s + 2.5, NOON_MS)
    assert ann.due_s == due_s + 4
    assert rows.entries[LATENESS, CLIENT].response_times == {0: 1, 500: 1}


def test_no_two_reports_have_the_same_time(options: Namespace, screens: Screens, rows: RowSet) -> None:
    ann = journal("ann", options, screens, rows)
    ann.welcome(WELCOME, 0.0)
    assert [ann.report(0.0, NOON_MS).seq for _ in range(3)] == [NOON_MS, NOON_MS + 1, NOON_MS + 2]


def test_the_radius_is_chosen_once_connected(options: Namespace, screens: Screens, rows: RowSet) -> None:
    assert journal("ann", options, screens, rows).welcome(WELCOME, 0.0) is None
    options.radius = 500.0
    assert journal("ann", options, screens, rows).welcome(WELCOME, 0.0) == SettingsMessage(500.0)


def test_an_answer_is_timed_and_a_refusal_is_not_awaited(options: Namespace, screens: Screens, rows: RowSet) -> None:
    ann, ben = (journal(name, options, screens, rows) for name in ("ann", "ben"))
    ann.welcome(WELCOME, 1.0)
    ben.show(Snapshot([entry("ann", 1)]), 1.0)
    seq = ann.report(2.0, NOON_MS).seq
    ann.hear_back(Ack(seq, NOON_MS, live=False), NOON_MS / 1000 + 0.5)
    seq = ann.report(2.0, NOON_MS + 1000).seq
    ann.hear_back(Error("unavailable", "", seq), NOON_MS / 1000 + 1.5)
    assert rows.entries[ACK, SOCKET].response_times == {500: 2}
    assert rows.entries[ACK, SOCKET].errors == {"unavailable": 1}
    ben.lose(1000.0)
    assert (SCREEN, SOCKET) not in rows.entries


def test_connecting_is_timed_from_the_wish_to_the_welcome(options: Namespace, screens: Screens, rows: RowSet) -> None:
    ann = journal("ann", options, screens, rows, now_s=10.0)
    ann.welcome(WELCOME, 10.5)
    ann.lose(20.0)
    ann.lose(21.0)  # another attempt, not welcomed
    ann.welcome(WELCOME, 31.0)
    assert rows.entries[CONNECT, SOCKET].response_times == {500: 1}
    assert rows.entries[RECONNECT, SOCKET].errors == {"later than 10000 ms": 1}


def test_who_could_not_connect_by_the_goal_counts_when_the_phone_is_put_away(
    options: Namespace, screens: Screens, rows: RowSet
) -> None:
    journal("ann", options, screens, rows, now_s=0.0).put_away(9.0)
    assert not rows.entries
    journal("ben", options, screens, rows, now_s=0.0).put_away(11.0)
    assert rows.entries[CONNECT, SOCKET].num_failures == 1


@pytest.mark.parametrize(
    ("end", "password", "over"),
    [
        (End(1012), "", False),
        (End(4429, AfterClose.WAIT_A_MINUTE), "", False),
        (End(4403, AfterClose.STOP), "secret", True),
        (End(4401, AfterClose.RENEW_TOKEN), "secret", False),
        (End(4401, AfterClose.RENEW_TOKEN), "", True),
    ],
)
def test_a_session_ends_where_the_server_or_the_token_says_so(
    options: Namespace, screens: Screens, rows: RowSet, end: End, password: str, over: bool
) -> None:
    assert journal("ann", options, screens, rows, password=password).give_up(end) is over
    assert ((SESSION, SOCKET) in rows.entries) is over


def test_pauses_grow_with_the_failures_unless_the_server_names_one(
    options: Namespace, screens: Screens, rows: RowSet
) -> None:
    ann = journal("ann", options, screens, rows)
    assert ann.pause_s(End(1000, pause_s=7.0)) == 7.0
    assert max(ann.pause_s() for _ in range(20)) > 5
    ann.welcome(WELCOME, 0.0)
    assert ann.pause_s(End(1006)) <= 0.5
    assert ann.pause_s(End(4429, AfterClose.WAIT_A_MINUTE)) >= 60


def test_retry_after_counts_in_seconds_and_up_to_a_minute() -> None:
    headers = [None, "3", "600", "Fri, 31 Dec 1999 23:59:59 GMT"]
    assert [retry_after_s(header) for header in headers] == [0, 3, 60, 0]
