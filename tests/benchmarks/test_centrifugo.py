"""The frames, beside the examples of Centrifugo's documents ("Client protocol", "Server API walkthrough")."""

from __future__ import annotations

import json

import jwt
import pytest

from benchmarks.references.centrifugo import Centrifugo, refusals
from benchmarks.targets import Target

USERS = 100
SECRET = "a secret that is long enough for HS256"
SERVER = Centrifugo("ws://127.0.0.1:8000/connection/websocket", "http://127.0.0.1:8000/api", "key", friends=4)
TARGET: Target = SERVER
ENTRY = b'{"user_id":"17","lat":37.57,"updated_at_ms":1795237188000}'


def lines(frame: bytes) -> list[object]:
    return [json.loads(line) for line in frame.split(b"\n")]


def test_a_client_connects_and_then_subscribes_to_each_friend() -> None:
    connect, subscribe = SERVER.hello(0, USERS)
    assert lines(connect) == [{"id": 1, "connect": {}}]
    assert lines(subscribe) == [
        {"id": 2, "subscribe": {"channel": "loc:1"}},
        {"id": 3, "subscribe": {"channel": "loc:99"}},
        {"id": 4, "subscribe": {"channel": "loc:2"}},
        {"id": 5, "subscribe": {"channel": "loc:98"}},
    ]


def test_the_token_names_the_user() -> None:
    server = Centrifugo(SERVER.url, SERVER.api_url, "key", SECRET)
    ((connect,), _) = (lines(frame) for frame in server.hello(17, USERS))
    assert isinstance(connect, dict)
    assert jwt.decode(connect["connect"]["token"], SECRET, ["HS256"]) == {"sub": "17"}


def test_secrets_are_not_shown() -> None:
    assert SECRET not in repr(Centrifugo(SERVER.url, SERVER.api_url, SECRET, SECRET))


@pytest.mark.parametrize(
    ("answers", "times"),
    [
        (b'{"id":1,"connect":{"client":"9ac9de4e","version":"0.0.0","ping":25,"pong":true}}', 0),
        (b'{"id":2,"subscribe":{}}\n{"id":3,"subscribe":{}}\n{"id":4,"subscribe":{}}', 0),
        (b'{"id":4,"subscribe":{}}\n{"id":5,"subscribe":{}}', 1),
        (b'{"id":5,"error":{"code":103,"message":"permission denied"}}', 0),
    ],
)
def test_everything_is_subscribed_with_the_last_answer(answers: bytes, times: int) -> None:
    assert answers.count(SERVER.subscribed) == times


def test_each_push_of_a_frame_has_the_marker_once() -> None:
    push = b'{"push":{"channel":"loc:17","pub":{"data":%b}}}' % ENTRY
    assert b"\n".join([push, push]).count(SERVER.marker) == 2


def test_a_batch_of_entries_is_one_request() -> None:
    request = SERVER.post([(17, ENTRY), (18, ENTRY)])
    assert request is not None
    assert request.url == "http://127.0.0.1:8000/api/batch"
    assert request.headers["X-API-Key"] == "key"
    assert json.loads(request.body) == {
        "commands": [
            {"publish": {"channel": "loc:17", "data": json.loads(ENTRY)}},
            {"publish": {"channel": "loc:18", "data": json.loads(ENTRY)}},
        ]
    }


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        (b'{"replies":[{"publish":{}},{"publish":{}}]}', []),
        (b'{"replies":[{"publish":{}},{"error":{"code":102,"message":"unknown channel"}}]}', ["102: unknown channel"]),
        (b'{"error":{"code":100,"message":"internal server error"}}', ["100: internal server error"]),
    ],
)
def test_refused_publishes_are_told(answer: bytes, reasons: list[str]) -> None:
    assert refusals(answer) == reasons


def test_it_is_driven_where_it_runs() -> None:
    assert SERVER.address == ("127.0.0.1", 8000)
    assert SERVER.path(17) == "/connection/websocket?cf_ws_frame_ping_pong=true"
