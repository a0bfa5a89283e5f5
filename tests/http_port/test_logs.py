"""What a line of the log looks like, and that it names nobody."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest

from http_port.logs import JsonFormatter, TextFormatter, UserHash
from nearby.settings import Secret

ANNA = "00000000-0000-4000-8000-000000000001"


def record(message: str, *arguments: object, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("ws_gateway.gateway", logging.WARNING, __file__, 1, message, arguments, None)
    vars(made).update(extra)
    return made


def test_json_lines_say_when_how_bad_where_and_what() -> None:
    entry = json.loads(JsonFormatter().format(record("arrival: %s", 'no "api"', connection_id="c-1", user="ab12")))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {
        "level": "warning",
        "logger": "ws_gateway.gateway",
        "message": 'arrival: no "api"',
        "connection_id": "c-1",
        "user": "ab12",
    }


def test_an_exception_stays_within_its_line() -> None:
    failed = record("failed")
    try:
        raise ValueError("no")
    except ValueError as error:
        failed.exc_info = (ValueError, error, error.__traceback__)
    line = JsonFormatter().format(failed)
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: no")


def test_text_lines_end_with_what_they_are_about() -> None:
    line = TextFormatter().format(record("arrival failed", connection_id="c-1", user="ab12"))
    assert line.endswith("WARNING ws_gateway.gateway arrival failed connection_id=c-1 user=ab12")
    assert TextFormatter().format(record("drained")).endswith("drained")


@pytest.mark.parametrize("key", [Secret("a key of sixteen characters"), None])
def test_a_user_has_one_hash_under_a_key(key: Secret | None) -> None:
    user_hash = UserHash(key)
    assert re.fullmatch("[0-9a-f]{16}", user_hash(ANNA))
    assert user_hash(ANNA) == user_hash(ANNA)
    assert user_hash(ANNA) != user_hash(ANNA[:-1] + "2")


def test_processes_with_one_key_agree_and_others_do_not() -> None:
    key = Secret("a key of sixteen characters")
    assert UserHash(key)(ANNA) == UserHash(key)(ANNA)
    assert UserHash(Secret("another key of the kind"))(ANNA) != UserHash(key)(ANNA)
    assert UserHash(None)(ANNA) != UserHash(None)(ANNA)
