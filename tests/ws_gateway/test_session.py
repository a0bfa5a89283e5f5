"""The session answers every message as protocol §1, §2 and §4 say; time is the test's own."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import pytest

from nearby.close_codes import CloseCode
from nearby.codecs import MESSAGE_PACK
from nearby.messages import AuthOk, Error, Pong, RejectedPoint, TokenExpiring
from nearby.model import Location, UserId
from nearby.settings import LimitSettings, load
from nearby.tokens import TokenKeys
from ws_gateway.session import (
    Admit,
    AnswerPing,
    ChangeRadius,
    Close,
    Effect,
    Ping,
    Report,
    Resync,
    Send,
    Session,
    StoreBatch,
)

pack = msgspec.msgpack.encode

NOW_MS = 1_795_237_200_000
ANNA = UserId("00000000-0000-4000-8000-00000000000a")
BEN = UserId("00000000-0000-4000-8000-00000000000b")
KEYS = TokenKeys({"k1": b"x" * 32})
LIMITS = load(LimitSettings, {})


def token(user_id: UserId = ANNA, lifetime_s: int = 3600, now_ms: int = NOW_MS) -> str:
    return KEYS.issue(user_id, now_ms, lifetime_s)


def opened(**limits: float) -> Session:
    session = Session(KEYS, dataclasses.replace(LIMITS, **limits), NOW_MS)  # type: ignore[arg-type]
    session.admit(KEYS.verify(token(), NOW_MS))
    return session


def say(session: Session, now_ms: int = NOW_MS, **message: Any) -> list[Effect]:
    return session.receive(json.dumps(message).encode(), now_ms)


def report(session: Session, now_ms: int = NOW_MS, **fields: Any) -> Report:
    (effect,) = say(session, now_ms, **{"type": "location", "lat": 37.5, "lon": 127.0, **fields})
    assert isinstance(effect, Report), effect
    return effect


def error_of(effects: list[Effect]) -> Error:
    (effect,) = effects
    assert isinstance(effect, Send), effect
    assert isinstance(effect.message, Error)
    return effect.message


class TestAuthentication:
    def test_the_first_frame_may_carry_the_token(self) -> None:
        session = Session(KEYS, LIMITS, NOW_MS)
        assert say(session, type="auth", token=token()) == [Admit(KEYS.verify(token(), NOW_MS))]

    def test_anything_else_before_it_is_refused_and_does_nothing(self) -> None:
        session = Session(KEYS, LIMITS, NOW_MS)
        refused = error_of(say(session, type="location", lat=1, lon=1, seq=7))
        assert (refused.code, refused.seq) == ("not_authenticated", 7)

    def test_a_bad_first_token_closes(self) -> None:
        session = Session(KEYS, LIMITS, NOW_MS)
        (close,) = say(session, type="auth", token="x.y.z")
        assert isinstance(close, Close)
        assert close.code is CloseCode.TOKEN_EXPIRED

    def test_silence_for_five_seconds_closes(self) -> None:
        session = Session(KEYS, LIMITS, NOW_MS)
        assert session.tick(NOW_MS + 4_999) == []
        assert [type(effect) for effect in session.tick(NOW_MS + 5_000)] == [Close]

    def test_a_large_frame_before_it_closes_with_1009(self) -> None:
        session = Session(KEYS, LIMITS, NOW_MS)
        (close,) = say(session, type="auth", token="x" * 4096)
        assert isinstance(close, Close)
        assert close.code is CloseCode.TOO_BIG

    def test_a_newer_token_of_the_same_user_renews_in_band(self) -> None:
        session = opened()
        later = NOW_MS + 1_000_000
        newer = token(now_ms=later)
        expires_at_ms = KEYS.verify(newer, later).expires_at_ms
        assert say(session, later, type="auth", token=newer) == [Send(AuthOk(expires_at_ms))]
        assert session.tick(NOW_MS + 3_700_000)[0] != Send(TokenExpiring(expires_at_ms))

    def test_another_users_token_is_refused_and_the_connection_stays(self) -> None:
        session = opened()
        assert error_of(say(session, type="auth", token=token(BEN))).code == "not_authenticated"
        assert error_of(say(session, type="auth", token="nonsense")).code == "not_authenticated"
        assert report(session).location.lat_deg == 37.5

    def test_the_end_of_the_token_is_announced_once_and_enforced_on_time(self) -> None:
        session = opened(report_interval_s=3_600)
        ends_ms = NOW_MS + 3_600_000
        assert session.tick(ends_ms - 60_001) == []
        assert session.tick(ends_ms - 60_000) == [Send(TokenExpiring(ends_ms))]
        assert session.tick(ends_ms - 1) == []
        (close,) = session.tick(ends_ms)
        assert isinstance(close, Close)
        assert close.code is CloseCode.TOKEN_EXPIRED


class TestMessages:
    def test_each_message_has_its_effect(self) -> None:
        session = opened()
        assert say(session, type="settings", radius_m=500) == [ChangeRadius(500)]
        assert say(session, type="resync") == [Resync()]
        assert say(session, type="ping", id="p1") == [Send(Pong("p1"))]

    @pytest.mark.parametrize("radius_m", [49, 50_001, "500", None, True])
    def test_a_radius_out_of_bounds_is_refused(self, radius_m: object) -> None:
        assert error_of(say(opened(), type="settings", radius_m=radius_m)).code == "invalid_message"

    @pytest.mark.parametrize(
        ("message", "code"),
        [
            ({"type": "location", "lat": 90.1, "lon": 0}, "invalid_location"),
            ({"type": "location", "lat": 0, "lon": -180.1}, "invalid_location"),
            ({"type": "location", "lat": "0", "lon": 0}, "invalid_location"),
            ({"type": "location", "lat": True, "lon": 0}, "invalid_location"),
            ({"type": "location", "lon": 0}, "invalid_location"),
            ({"type": "location", "lat": 0, "lon": 0, "accuracy_m": -1}, "invalid_location"),
            ({"type": "location", "lat": 0, "lon": 0, "heading_deg": 360}, "invalid_location"),
            ({"type": "location", "lat": 0, "lon": 0, "speed_mps": 501}, "invalid_location"),
            ({"type": "location", "lat": 0, "lon": 0, "recorded_at_ms": NOW_MS - 8 * 86_400_000}, "too_old"),
            ({"type": "location", "lat": 0, "lon": 0, "altitude": 3}, "invalid_message"),
            ({"type": "batch", "points": []}, "invalid_message"),
            ({"type": "batch", "points": [{"lat": 0, "lon": 0}] * 101}, "too_many_points"),
            ({"type": "teleport"}, "unknown_type"),
            ({"type": 5}, "invalid_message"),
            ({}, "invalid_message"),
        ],
    )
    def test_a_bad_message_gets_its_code_with_the_seq_and_changes_nothing(
        self, message: dict[str, Any], code: str
    ) -> None:
        session = opened()
        refused = error_of(say(session, **message, seq=41))
        assert (refused.code, refused.seq) == (code, 41)
        assert report(session, seq=42) == Report(Location(37.5, 127.0, NOW_MS), 42, flagged=False)

    def test_ten_invalid_messages_in_a_row_close(self) -> None:
        session = opened()
        for _ in range(9):
            assert len(session.receive(b"{", NOW_MS)) == 1
        error, close = session.receive(b"{", NOW_MS)
        assert isinstance(error, Send)
        assert close == Close(CloseCode.TOO_MANY_INVALID, "10 invalid messages in a row")
        assert session.receive(b'{"type":"resync"}', NOW_MS) == []

    def test_a_valid_message_starts_the_count_of_invalid_ones_anew(self) -> None:
        session = opened(message_rate=0)
        for _ in range(5):
            for _ in range(9):
                assert len(session.receive(b"[]", NOW_MS)) == 1
            report(session)

    def test_bad_utf8_closes_with_1007(self) -> None:
        (close,) = opened().receive(b'{"type":"ping","id":"\xff"}', NOW_MS)
        assert isinstance(close, Close)
        assert close.code is CloseCode.INVALID_TEXT


class TestTimes:
    def test_without_a_time_the_arrival_counts(self) -> None:
        assert report(opened()).location.recorded_at_ms == NOW_MS

    def test_up_to_a_minute_ahead_is_taken_as_it_is(self) -> None:
        assert report(opened(), recorded_at_ms=NOW_MS + 60_000).location.recorded_at_ms == NOW_MS + 60_000

    def test_further_ahead_is_taken_as_now(self) -> None:
        assert report(opened(), recorded_at_ms=NOW_MS + 60_001).location.recorded_at_ms == NOW_MS

    def test_F19_a_device_clock_off_by_a_day_is_corrected_by_what_it_sent(self) -> None:
        day = 86_400_000
        for error_ms in (day, -day):
            effect = report(opened(), sent_at_ms=NOW_MS + error_ms, recorded_at_ms=NOW_MS + error_ms - 4_000)
            assert effect.location.recorded_at_ms == NOW_MS - 4_000


class TestPlausibility:
    def test_a_fix_less_accurate_than_five_kilometres_is_flagged(self) -> None:
        assert report(opened(), accuracy_m=5_001).flagged
        assert not report(opened(), accuracy_m=5_000).flagged

    def test_a_single_wild_fix_is_flagged_and_the_next_one_back_home_is_not(self) -> None:
        session = opened()
        assert not report(session).flagged
        assert report(session, NOW_MS + 30_000, lat=38.5).flagged
        assert not report(session, NOW_MS + 60_000).flagged

    def test_a_second_fix_that_agrees_with_the_jump_is_believed(self) -> None:
        session = opened()
        report(session)
        assert report(session, NOW_MS + 30_000, lat=51.5, lon=0.0).flagged
        assert not report(session, NOW_MS + 60_000, lat=51.501, lon=0.0).flagged

    def test_a_phone_switched_on_in_another_city_is_believed_at_its_second_fix(self) -> None:
        session = opened()
        session.last_known(Location(37.5, 127.0, NOW_MS - 60_000))
        assert report(session, lat=35.1, lon=129.0).flagged
        assert not report(session, NOW_MS + 30_000, lat=35.1, lon=129.0).flagged

    def test_what_the_accuracy_explains_is_no_jump(self) -> None:
        session = opened()
        report(session, accuracy_m=4_000)
        assert not report(session, NOW_MS + 1_000, lat=37.53, accuracy_m=10).flagged

    def test_the_limit_can_be_switched_off(self) -> None:
        session = opened(max_speed_mps=0)
        report(session)
        assert not report(session, NOW_MS + 1, lat=-37.5).flagged


class TestLimits:
    def test_a_burst_of_twenty_is_taken_and_the_next_is_told_when_to_come_back(self) -> None:
        session = opened()
        for _ in range(20):
            report(session)
        refused = error_of(say(session, type="location", lat=1, lon=1, seq=3))
        assert (refused.code, refused.seq, refused.retry_after_ms) == ("rate_limited", 3, 500)
        assert isinstance(say(session, NOW_MS + 500, type="location", lat=1, lon=1)[0], Report)

    def test_ignoring_the_limit_fifty_times_closes_with_4429(self) -> None:
        session = opened()
        for _ in range(20):
            report(session)
        for _ in range(50):
            assert error_of(say(session, type="resync")).code == "rate_limited"
        (close,) = say(session, type="resync")
        assert isinstance(close, Close)
        assert close.code is CloseCode.RATE_LIMIT_IGNORED

    def test_two_a_second_are_taken_for_ever(self) -> None:
        session = opened()
        for step in range(200):
            report(session, NOW_MS + step * 500)

    def test_the_limit_can_be_switched_off(self) -> None:
        session = opened(message_rate=0)
        for _ in range(1_000):
            report(session)


class TestControlFrames:
    def test_a_ping_is_answered_and_counts_as_a_message(self) -> None:
        session = opened()
        for _ in range(20):
            assert session.ping(b"x", NOW_MS) == [AnswerPing(b"x")]
        assert session.ping(b"x", NOW_MS) == []
        assert error_of(say(session, type="resync")).code == "rate_limited"

    def test_a_flood_of_pings_or_of_pongs_that_nobody_asked_for_closes_with_4429(self) -> None:
        pings, pongs = opened(), opened()
        effects = [effect for _ in range(71) for effect in pings.ping(b"", NOW_MS)]
        assert effects == [AnswerPing(b"")] * 20 + [Close(CloseCode.RATE_LIMIT_IGNORED, "rate limit ignored")]
        effects = [effect for _ in range(71) for effect in pongs.pong(NOW_MS, asked=False)]
        assert effects == [Close(CloseCode.RATE_LIMIT_IGNORED, "rate limit ignored")]

    def test_a_pong_that_was_asked_for_costs_nothing(self) -> None:
        session = opened()
        for _ in range(1_000):
            assert session.pong(NOW_MS, asked=True) == []
        report(session)


class TestMaximumAge:
    def test_a_connection_that_reached_its_age_is_sent_to_reconnect(self) -> None:
        session = Session(KEYS, LIMITS, NOW_MS, max_age_ms=60_000)
        session.admit(KEYS.verify(token(), NOW_MS))
        assert session.tick(NOW_MS + 59_999) == []
        assert session.tick(NOW_MS + 60_000) == [Close(CloseCode.MAXIMUM_AGE, "time to move on")]


class TestHeartbeat:
    def test_a_client_silent_for_three_intervals_is_pinged_once_and_closed_ten_seconds_later(self) -> None:
        session = opened()
        assert session.tick(NOW_MS + 89_999) == []
        assert session.tick(NOW_MS + 90_000) == [Ping()]
        assert session.tick(NOW_MS + 99_999) == []
        assert session.tick(NOW_MS + 100_000) == [Close(CloseCode.SILENT, "silent too long")]

    def test_a_pong_counts_as_a_sign_of_life(self) -> None:
        session = opened()
        session.tick(NOW_MS + 90_000)
        assert session.pong(NOW_MS + 95_000, asked=False) == []
        assert session.tick(NOW_MS + 105_000) == []
        assert session.tick(NOW_MS + 185_000) == [Ping()]


class TestBatch:
    def test_good_points_are_stored_and_bad_ones_named_by_their_index(self) -> None:
        points = [
            {"lat": 1, "lon": 2, "recorded_at_ms": NOW_MS - 5_000},
            {"lat": 91, "lon": 2},
            {"lat": 1, "lon": 2, "recorded_at_ms": NOW_MS - 8 * 86_400_000},
            "nonsense",
        ]
        (effect,) = say(opened(), type="batch", points=points, seq=9)
        assert isinstance(effect, StoreBatch)
        assert effect.points == (Location(1.0, 2.0, NOW_MS - 5_000),)
        assert [(point.index, point.code) for point in effect.rejected] == [
            (1, "invalid_location"),
            (2, "too_old"),
            (3, "invalid_location"),
        ]
        assert effect.seq == 9


class TestMessagePack:
    """What a session makes of MessagePack; whatever it decides is the same as in JSON."""

    def opened(self) -> Session:
        session = Session(KEYS, LIMITS, NOW_MS, codec=MESSAGE_PACK)
        session.admit(KEYS.verify(token(), NOW_MS))
        return session

    def test_reports_and_batches_are_taken(self) -> None:
        session = self.opened()
        point = {"lat": 37.5, "lon": 127.0}
        (report,) = session.receive(pack({"type": "location", "seq": 1, **point}), NOW_MS)
        assert report == Report(Location(37.5, 127.0, NOW_MS), 1, flagged=False)
        (batch,) = session.receive(pack({"type": "batch", "seq": 2, "points": [point, {"lat": b"1"}]}), NOW_MS)
        assert batch == StoreBatch((Location(37.5, 127.0, NOW_MS),), (RejectedPoint(1, "invalid_location"),), 2)

    def test_too_many_points_are_too_many_points(self) -> None:
        points = [{"lat": 1, "lon": 2}] * 101
        error = error_of(self.opened().receive(pack({"type": "batch", "seq": 2, "points": points}), NOW_MS))
        assert (error.code, error.seq) == ("too_many_points", 2)

    def test_text_that_is_not_utf8_is_an_invalid_message_and_no_broken_frame(self) -> None:
        assert error_of(self.opened().receive(b"\x81\xa4type\xa1\xff", NOW_MS)).code == "invalid_message"
        assert error_of(self.opened().receive(b"\xc1", NOW_MS)).code == "invalid_message"

    def test_ten_invalid_messages_in_a_row_close(self) -> None:
        session = self.opened()
        effects = [session.receive(b"\xc1", NOW_MS) for _ in range(10)][-1]
        assert isinstance(effects[-1], Close)
        assert effects[-1].code is CloseCode.TOO_MANY_INVALID

    def test_json_in_a_binary_frame_is_no_message(self) -> None:
        assert error_of(self.opened().receive(b'{"type":"resync"}', NOW_MS)).code == "invalid_message"
