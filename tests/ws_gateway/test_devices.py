"""Which of a user's devices friends see; everything here is pure."""

from __future__ import annotations

import random

from nearby.model import Location
from ws_gateway.devices import FRESHER_MS, STICKY_MS, Devices

NOW_MS = 1_795_237_200_000
PHONE, TABLET = "phone", "tablet"


def fix(at_ms: int = NOW_MS, accuracy_m: float | None = None) -> Location:
    return Location(37.5, 127.0, at_ms, accuracy_m)


def devices_of(*connected: str) -> Devices[str]:
    devices: Devices[str] = Devices()
    devices.connected += connected
    return devices


def reported_by(source: str | None, accuracy_m: float | None = None) -> Devices[str]:
    devices = devices_of(PHONE, TABLET)
    devices.took(source, fix(accuracy_m=accuracy_m), NOW_MS)
    return devices


def test_the_only_device_always_wins() -> None:
    devices = devices_of(PHONE)
    for step in range(10):
        location = fix(NOW_MS + step * 30_000)
        assert devices.wins(PHONE, location, NOW_MS + step * 30_000, first=step == 0)
        assert devices.took(PHONE, location, NOW_MS + step * 30_000)


def test_another_device_loses_while_the_source_reports() -> None:
    devices = reported_by(PHONE)
    assert not devices.wins(TABLET, fix(NOW_MS + 15_000), NOW_MS + 15_000, first=False)
    assert devices.wins(PHONE, fix(NOW_MS + 30_000), NOW_MS + 30_000, first=False)


def test_a_phone_and_a_tablet_that_take_turns_do_not_flap() -> None:
    devices, rng, sources = devices_of(PHONE, TABLET), random.Random(1), []
    for step in range(200):
        now_ms = NOW_MS + step * 15_000 + rng.randrange(2_000)
        device = (PHONE, TABLET)[step % 2]
        location = fix(now_ms, rng.uniform(5, 30))
        if devices.wins(device, location, now_ms, first=False):
            devices.took(device, location, now_ms)
            sources.append(device)
    assert set(sources) == {PHONE}
    assert len(sources) == 100


def test_a_source_that_missed_its_reports_is_followed_by_another() -> None:
    devices = reported_by(PHONE)
    late_ms = NOW_MS + FRESHER_MS
    assert not devices.wins(TABLET, fix(late_ms - 1), late_ms - 1, first=False)
    assert devices.wins(TABLET, fix(late_ms), late_ms, first=False)


def test_a_source_not_heard_of_for_two_minutes_is_none_even_if_its_clock_is_ahead() -> None:
    devices = devices_of(PHONE, TABLET)
    devices.took(PHONE, fix(NOW_MS + 100_000), NOW_MS)
    assert not devices.wins(TABLET, fix(NOW_MS + STICKY_MS - 1), NOW_MS + STICKY_MS - 1, first=False)
    assert devices.wins(TABLET, fix(NOW_MS + STICKY_MS), NOW_MS + STICKY_MS, first=False)


def test_a_clearly_more_accurate_fix_wins() -> None:
    devices = reported_by(TABLET, accuracy_m=60)
    assert not devices.wins(PHONE, fix(NOW_MS + 1_000, 31), NOW_MS + 1_000, first=False)
    assert devices.wins(PHONE, fix(NOW_MS + 1_000, 30), NOW_MS + 1_000, first=False)
    assert not reported_by(TABLET, accuracy_m=10).wins(PHONE, fix(NOW_MS + 1_000, 1), NOW_MS + 1_000, first=False)
    assert not reported_by(TABLET).wins(PHONE, fix(NOW_MS + 1_000, 1), NOW_MS + 1_000, first=False)


def test_a_device_that_has_just_connected_wins_unless_the_source_is_clearly_more_accurate() -> None:
    assert reported_by(PHONE, accuracy_m=10).wins(TABLET, fix(NOW_MS + 1_000, 30), NOW_MS + 1_000, first=True)
    assert not reported_by(PHONE, accuracy_m=10).wins(TABLET, fix(NOW_MS + 1_000, 60), NOW_MS + 1_000, first=True)


def test_a_device_on_another_gateway_is_a_source_too() -> None:
    devices = reported_by(None)
    assert not devices.wins(PHONE, fix(NOW_MS + 15_000), NOW_MS + 15_000, first=False)


def test_when_the_source_leaves_the_next_fix_wins() -> None:
    devices = reported_by(PHONE)
    devices.left(PHONE)
    assert devices.wins(TABLET, fix(NOW_MS + 1_000), NOW_MS + 1_000, first=False)


def test_a_publish_that_comes_back_after_its_source_left_is_not_taken_for_another_device() -> None:
    devices = reported_by(PHONE)
    devices.left(PHONE)
    assert not devices.took(None, fix(), NOW_MS + 500)
    assert devices.wins(TABLET, fix(NOW_MS + 1_000), NOW_MS + 1_000, first=False)


def test_a_fix_accepted_after_its_device_left_makes_nobody_the_source() -> None:
    devices = devices_of(TABLET)
    assert devices.took_of_one_gone(fix(), NOW_MS)
    assert not devices.took(None, fix(), NOW_MS + 500)
    assert devices.wins(TABLET, fix(NOW_MS + 1_000), NOW_MS + 1_000, first=False)


def test_when_another_leaves_the_source_stays() -> None:
    devices = reported_by(PHONE)
    devices.left(TABLET)
    assert devices.live is not None
    assert devices.live.source == PHONE


def test_what_is_not_newer_is_no_news() -> None:
    devices = reported_by(PHONE)
    assert not devices.took(None, fix(NOW_MS), NOW_MS + 5)
    assert not devices.took(TABLET, fix(NOW_MS - 1), NOW_MS + 5)
    assert devices.live is not None
    assert devices.live.source == PHONE
