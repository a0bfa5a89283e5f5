"""What the address of Redis servers may look like, and that its password is seen nowhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearby.redis_address import Credentials, RedisAddress, Topology, masked, parse


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("redis://h", RedisAddress(Topology.SERVER, (("h", 6379),))),
        ("redis://h:1/2", RedisAddress(Topology.SERVER, (("h", 1),), database=2)),
        ("redis://[::1]:1?db=2", RedisAddress(Topology.SERVER, (("::1", 1),), database=2)),
        ("redis://u:p%40@h", RedisAddress(Topology.SERVER, (("h", 6379),), credentials=Credentials("u", "p@"))),
        ("redis://:p@h", RedisAddress(Topology.SERVER, (("h", 6379),), credentials=Credentials(None, "p"))),
        ("rediss://h", RedisAddress(Topology.SERVER, (("h", 6379),), tls={})),
        (
            "rediss://h?ssl_ca_certs=/ca.pem",
            RedisAddress(Topology.SERVER, (("h", 6379),), tls={"ssl_ca_certs": "/ca.pem"}),
        ),
        ("unix:///run/s", RedisAddress(Topology.SERVER, path="/run/s")),
        ("unix://u:p@/run/s", RedisAddress(Topology.SERVER, path="/run/s", credentials=Credentials("u", "p"))),
        (
            "redis+sentinel://u:p@a,b:2/nearby/3?sentinel_username=s&sentinel_password=t",
            RedisAddress(
                Topology.SENTINEL,
                (("a", 26379), ("b", 2)),
                service="nearby",
                database=3,
                credentials=Credentials("u", "p"),
                sentinel_credentials=Credentials("s", "t"),
            ),
        ),
        ("rediss+sentinel://a/nearby", RedisAddress(Topology.SENTINEL, (("a", 26379),), service="nearby", tls={})),
        ("redis+cluster://a:1,b:2", RedisAddress(Topology.CLUSTER, (("a", 1), ("b", 2)))),
        ("rediss+cluster://a:1/", RedisAddress(Topology.CLUSTER, (("a", 1),), tls={})),
    ],
)
def test_an_address_means_what_it_says(text: str, meaning: RedisAddress) -> None:
    assert parse(text) == meaning


@pytest.mark.parametrize(
    "text",
    [
        *("", "redis", "redis://", "http://h", "redis+http://h", "redis:///s", "redis://a,b", "redis://h:0"),
        *("redis://h:65536", "redis://h:x", "redis://h/x", "redis://h/-1", "redis://h/1/2", "redis://h?colour=blue"),
        *("redis://h?ssl_ca_certs=/ca.pem", "redis://h#x", "unix://h/s", "unix://", "unix:///s?ssl_ca_certs=/x"),
        *("redis+sentinel://a", "redis+sentinel:///nearby", "redis+sentinel://a/nearby/1/2", "redis+sentinel://a,/n"),
        *("redis+cluster://", "redis+cluster://a/1", "redis+cluster://a?db=1", "redis+cluster://a b"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


SECRET = st.text(st.characters(codec="utf-8"), min_size=4).map(lambda text: f"hunter2{text}")


@given(SECRET)
def test_no_password_is_in_an_error_a_repr_or_a_masked_address(secret: str) -> None:
    for text in (f"redis://u:{secret}@h:1", f"redis+sentinel://a/n?sentinel_password={secret}"):
        try:
            said = repr(parse(text))
        except ValueError as error:
            said = str(error)
        assert "hunter2" not in said
        assert "hunter2" not in masked(text)


def test_a_masked_address_still_tells_where() -> None:
    assert masked("redis+sentinel://u:p@a,b/n?sentinel_password=t&db=1") == (
        "redis+sentinel://…@a,b/n?sentinel_password=…&db=1"
    )
