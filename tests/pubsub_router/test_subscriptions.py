"""The bookkeeping of one shard's subscriptions."""

from __future__ import annotations

from pubsub_router.subscriptions import CHUNK, WINDOW, Subscriptions


def names(count: int) -> list[bytes]:
    return [b"loc:%d" % n for n in range(count)]


async def test_F4_subscriptions_go_out_in_chunks_of_512_and_only_as_they_are_confirmed() -> None:
    subscriptions = Subscriptions()
    subscriptions.want(names(5_000))
    asked: list[bytes] = []
    while chunk := subscriptions.next_chunk():
        assert len(chunk) <= CHUNK == 512
        asked += chunk
    assert len(asked) == CHUNK * WINDOW
    rest = 5_000 - len(asked)
    while asked:
        subscriptions.confirm(asked.pop(0))
        chunk = subscriptions.next_chunk()
        assert len(chunk) <= CHUNK
        rest -= len(chunk)
        asked += chunk
    assert rest == 0
    assert subscriptions.settled
    assert len(subscriptions.confirmed) == 5_000


async def test_a_waiter_ends_with_the_last_confirmation() -> None:
    subscriptions = Subscriptions()
    subscriptions.want(names(3))
    waiter = subscriptions.wait_for(names(3))
    subscriptions.next_chunk()
    for name in names(3):
        assert not waiter.done.done()
        assert not subscriptions.confirm(name)
    assert waiter.done.done()


async def test_after_a_lost_connection_everything_is_asked_for_again_and_may_have_missed_messages() -> None:
    subscriptions = Subscriptions()
    subscriptions.want(names(2))
    subscriptions.next_chunk()
    subscriptions.confirm(b"loc:0")
    subscriptions.connection_lost()
    subscriptions.want([b"loc:new"])
    assert sorted(subscriptions.next_chunk()) == [b"loc:0", b"loc:1", b"loc:new"]
    assert subscriptions.confirm(b"loc:0")
    assert not subscriptions.confirm(b"loc:1")
    assert not subscriptions.confirm(b"loc:new")


async def test_a_channel_given_up_waiting_for_is_reported_as_a_gap_when_it_is_confirmed() -> None:
    subscriptions = Subscriptions()
    subscriptions.want(names(1))
    waiter = subscriptions.wait_for(names(1))
    subscriptions.next_chunk()
    subscriptions.give_up(waiter, names(1))
    assert subscriptions.confirm(b"loc:0")


async def test_a_confirmation_from_before_an_unsubscribe_does_not_count_for_the_subscribe_after_it() -> None:
    subscriptions = Subscriptions()
    subscriptions.want(names(1))
    subscriptions.next_chunk()
    assert subscriptions.drop(names(1)) == names(1)
    subscriptions.want(names(1))
    subscriptions.next_chunk()
    subscriptions.confirm(b"loc:0")
    assert subscriptions.confirmed == set()
    subscriptions.confirm(b"loc:0")
    assert subscriptions.confirmed == {b"loc:0"}


async def test_a_channel_dropped_before_it_was_asked_for_needs_no_unsubscribe() -> None:
    subscriptions = Subscriptions()
    subscriptions.want(names(1))
    assert subscriptions.drop(names(1)) == []
    assert subscriptions.next_chunk() == []
    assert len(subscriptions) == 0
