"""Admission lets in at a steady rate, and believes nobody about their address without reason; time is the test's."""

from __future__ import annotations

import errno
import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearby.errors import SettingsError
from nearby.settings import AdmissionSettings, load, networks
from ws_gateway import admission
from ws_gateway.admission import Admission, Refusal, TokenBucket, client_address
from ws_gateway.server import MAX_ACCEPTS_PER_TURN, Door, peer_address

TRUSTED = networks("10.0.0.0/8,2001:db8:1::/48,192.0.2.7")


def settings(**environ: str) -> AdmissionSettings:
    return load(AdmissionSettings, {f"NEARBY_{name}": value for name, value in environ.items()})


class TestTokenBucket:
    def test_a_full_bucket_gives_its_burst_and_then_its_rate(self) -> None:
        bucket = TokenBucket(2, 3, now_s=100.0)
        assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
        assert [bucket.take(100.4), bucket.take(100.5), bucket.take(100.9)] == [False, True, False]

    @given(st.lists(st.floats(0, 5), max_size=200), st.floats(0.1, 50), st.integers(1, 30))
    def test_never_more_than_burst_and_rate_allow(self, waits_s: list[float], rate: float, burst: int) -> None:
        bucket, now_s, taken = TokenBucket(rate, burst, now_s=0.0), 0.0, 0
        for wait_s in waits_s:
            now_s += wait_s
            taken += bucket.take(now_s)
        assert taken <= burst + rate * now_s + 1e-6

    def test_a_clock_that_goes_back_gives_nothing(self) -> None:
        bucket = TokenBucket(1, 1, now_s=100.0)
        assert bucket.take(100.0)
        assert not bucket.take(0.0)


class TestAdmission:
    def test_the_gateway_lets_in_its_burst_and_no_more(self) -> None:
        limits = Admission(settings(CONNECT_RATE="10", CONNECT_BURST="3"), 0.0)
        assert [limits.refuse(None, 0.0) for _ in range(4)] == [None, None, None, Refusal.GATEWAY_RATE]
        assert limits.refuse(None, 0.1) is None

    def test_an_address_over_its_limit_takes_nothing_from_the_others(self) -> None:
        limits = Admission(settings(CONNECT_RATE="1", CONNECT_BURST="10", CONNECT_RATE_PER_ADDRESS="1"), 0.0)
        answers = [limits.refuse("192.0.2.1", 0.0) for _ in range(100)]
        assert answers == [None] * 5 + [Refusal.ADDRESS_RATE] * 95
        assert limits.refuse("192.0.2.2", 0.0) is None

    def test_addresses_of_one_ipv6_network_share_a_limit(self) -> None:
        limits = Admission(settings(CONNECT_RATE_PER_ADDRESS="0.2"), 0.0)
        assert limits.refuse("2001:db8::1", 0.0) is None
        assert limits.refuse("2001:db8::ffff:2", 0.0) is Refusal.ADDRESS_RATE
        assert limits.refuse("2001:db8:0:1::1", 0.0) is None
        assert limits.refuse("::ffff:192.0.2.1", 0.0) is None
        assert limits.refuse("::ffff:192.0.2.2", 0.0) is None

    def test_memory_is_bounded_and_who_came_last_is_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(admission, "MAX_ADDRESSES", 10)
        limits = Admission(settings(CONNECT_RATE_PER_ADDRESS="0.2"), 0.0)
        for n in range(100):
            assert limits.refuse(f"192.0.2.{n}", 0.0) is None
        assert len(limits) == 10
        assert limits.refuse("192.0.2.99", 0.0) is Refusal.ADDRESS_RATE
        assert limits.refuse("192.0.2.1", 0.0) is None

    def test_each_limit_can_be_switched_off(self) -> None:
        limits = Admission(settings(CONNECT_RATE="0"), 0.0)
        assert {limits.refuse("192.0.2.1", 0.0) for _ in range(10_000)} == {None}
        assert len(limits) == 0


class TestClientAddress:
    @pytest.mark.parametrize(
        ("peer", "forwarded", "address"),
        [
            ("203.0.113.5", [], "203.0.113.5"),
            ("203.0.113.5", ["198.51.100.1"], "203.0.113.5"),
            ("10.1.2.3", [], "10.1.2.3"),
            ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
            ("10.1.2.3", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            ("10.1.2.3", ["6.6.6.6", "198.51.100.1, 192.0.2.7"], "198.51.100.1"),
            ("10.1.2.3", ["198.51.100.1,10.9.9.9,192.0.2.7"], "198.51.100.1"),
            ("10.1.2.3", ["10.9.9.9"], "10.9.9.9"),
            ("10.1.2.3", ["nonsense"], "10.1.2.3"),
            ("10.1.2.3", ["198.51.100.1, "], "10.1.2.3"),
            ("10.1.2.3", ["[2001:db8::5]"], "2001:db8::5"),
            ("2001:db8:1::9", ["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
            ("192.0.2.8", ["198.51.100.1"], "192.0.2.8"),
            ("", ["198.51.100.1"], ""),
        ],
    )
    def test_the_rightmost_address_that_is_not_ours_counts(self, peer: str, forwarded: list[str], address: str) -> None:
        assert client_address(peer, forwarded, TRUSTED) == address

    @given(st.lists(st.text(max_size=30), max_size=5))
    def test_what_a_stranger_writes_is_never_believed(self, forwarded: list[str]) -> None:
        assert client_address("203.0.113.5", forwarded, TRUSTED) == "203.0.113.5"

    @given(st.lists(st.text(max_size=30), max_size=5))
    def test_what_stands_left_of_a_proxys_word_is_never_believed(self, invented: list[str]) -> None:
        assert client_address("10.1.2.3", [*invented, "198.51.100.1"], TRUSTED) == "198.51.100.1"

    def test_a_range_that_is_none_stops_the_process(self) -> None:
        with pytest.raises(SettingsError, match="NEARBY_TRUSTED_PROXIES"):
            settings(TRUSTED_PROXIES="10.0.0.1/8")


class TestDoor:
    @pytest.fixture
    def listening(self) -> Iterator[socket.socket]:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen(200)
            sock.setblocking(False)
            yield sock

    def clients(self, door: socket.socket, count: int) -> list[socket.socket]:
        return [socket.create_connection(door.getsockname()) for _ in range(count)]

    def test_one_turn_of_the_event_loop_accepts_so_many_and_the_next_goes_on(self, listening: socket.socket) -> None:
        with closing(Door(listening, Counter())) as door:
            clients = self.clients(door, MAX_ACCEPTS_PER_TURN + 1)
            for _ in range(MAX_ACCEPTS_PER_TURN):
                door.accept()[0].close()
            with pytest.raises(BlockingIOError):
                door.accept()
            door.accept()[0].close()
            with pytest.raises(BlockingIOError):
                door.accept()
            assert peer_address.get() == "127.0.0.1"
            for client in clients:
                client.close()

    def test_a_client_who_would_take_a_reserved_descriptor_is_turned_away(self, listening: socket.socket) -> None:
        refused: Counter[tuple[int, str]] = Counter()
        with closing(Door(listening, refused, ceiling=3)) as door:
            (client,) = self.clients(door, 1)
            with pytest.raises(ConnectionAbortedError):
                door.accept()
            assert client.recv(1) == b""
            client.close()
        assert refused == {(0, "descriptors"): 1}

    def test_without_any_descriptor_the_queue_is_emptied_and_nothing_raised(
        self, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refused: Counter[tuple[int, str]] = Counter()
        accept = socket.socket.accept
        failures = [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]

        def accept_or_fail(self: socket.socket) -> tuple[socket.socket, object]:
            if failures:
                raise failures.pop()
            return accept(self)

        with closing(Door(listening, refused)) as door:
            (client,) = self.clients(door, 1)
            monkeypatch.setattr(socket.socket, "accept", accept_or_fail)
            with pytest.raises(BlockingIOError):
                door.accept()
            assert client.recv(1) == b""
            client.close()
        assert refused == {(0, "descriptors"): 1}
