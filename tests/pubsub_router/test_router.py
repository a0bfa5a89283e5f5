"""The router over real servers, killed, frozen and restarted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from nearby.channels import probe_channel
from nearby.ports import RingState
from pubsub_router.router import DOWN_AFTER_S, Router
from pubsub_router.shard import CONNECT_TIMEOUT_S, MAX_HELD
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

Servers = Callable[..., ValkeyServer]
CHANNELS = [b"loc:%d" % n for n in range(60)]


class Recorder:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self.gaps: list[bytes] = []
        self.bursts = 0

    def on_message(self, channel: bytes, payload: bytes) -> None:
        self.messages.append((channel, payload))

    def on_burst_end(self) -> None:
        self.bursts += 1

    def on_gap(self, channels: Sequence[bytes]) -> None:
        self.gaps += channels


def nodes_of(*servers: ValkeyServer) -> dict[str, str]:
    return {f"shard-{n}": server.url for n, server in enumerate(servers)}


def ring_of(*servers: ValkeyServer, epoch: int = 1) -> RingState:
    return RingState(epoch, nodes_of(*servers))


@asynccontextmanager
async def routing(
    ring: RingState, listener: Recorder, member: str = "test", probe_interval_s: float = 5, connected: bool = True
) -> AsyncIterator[Router]:
    """Yield a router on ``ring``, by default once it is connected: before, only the latest of a channel is kept."""
    async with Router(listener, member=member, probe_interval_s=probe_interval_s) as router:
        await router.apply(ring)
        if connected:
            await eventually(lambda: all(shard.connected for shard in router.shards.values()))
        yield router


@pytest.fixture
def servers(valkey_servers: Servers) -> tuple[ValkeyServer, ValkeyServer]:
    return valkey_servers(), valkey_servers()


async def test_what_one_process_publishes_another_receives_in_order(
    servers: tuple[ValkeyServer, ValkeyServer],
) -> None:
    heard = Recorder()
    async with (
        routing(ring_of(*servers), heard, "a") as receiver,
        routing(ring_of(*servers), Recorder(), "b") as sender,
    ):
        receiver.subscribe(CHANNELS)
        await receiver.confirmed(CHANNELS)
        for step in range(10):
            for channel in CHANNELS:
                sender.publish(channel, b"%d" % step)
        await eventually(lambda: len(heard.messages) == 600, within_s=5)
        for channel in CHANNELS:
            assert [text for name, text in heard.messages if name == channel] == [b"%d" % n for n in range(10)]
        assert {shard.received_count for shard in receiver.shards.values()} != {0, 600}, "one shard did it all"
        assert 0 < heard.bursts < 600


async def test_a_channel_stays_subscribed_until_its_last_subscriber_leaves(
    servers: tuple[ValkeyServer, ValkeyServer],
) -> None:
    heard = Recorder()
    async with routing(ring_of(*servers), heard) as router:
        router.subscribe([b"loc:x"])
        router.subscribe([b"loc:x"])
        router.unsubscribe([b"loc:x"])
        await router.confirmed([b"loc:x"])
        router.publish(b"loc:x", b"1")
        await eventually(lambda: heard.messages == [(b"loc:x", b"1")], within_s=5)
        router.unsubscribe([b"loc:x"])
        router.publish(b"loc:x", b"2")
        router.subscribe([b"loc:y"])
        await router.confirmed([b"loc:y"])
        assert len(heard.messages) == 1
        assert router.subscription_count == 1


async def test_F4_a_shard_killed_and_restarted_is_subscribed_again_and_reports_the_gap(
    servers: tuple[ValkeyServer, ValkeyServer],
) -> None:
    heard = Recorder()
    async with routing(ring_of(*servers), heard) as router:
        router.subscribe(CHANNELS)
        await router.confirmed(CHANNELS)
        on_dead = {channel for channel in CHANNELS if router.ring and router.ring.slot_of(channel) == "shard-0"}
        servers[0].kill()
        await eventually(lambda: not router.shards["shard-0"].connected, within_s=5)
        for channel in CHANNELS:
            router.publish(channel, b"old")
            router.publish(channel, b"new")
        servers[0].start()
        await eventually(lambda: set(heard.gaps) == on_dead, within_s=10)
        await eventually(
            lambda: {name for name, text in heard.messages if text == b"new"} == set(CHANNELS), within_s=10
        )
        assert {name for name, text in heard.messages if text == b"old"} == set(CHANNELS) - on_dead


async def test_F7_a_subscriber_dropped_by_the_server_heals_in_two_seconds(
    servers: tuple[ValkeyServer, ValkeyServer],
) -> None:
    heard = Recorder()
    async with routing(ring_of(*servers), heard) as router:
        router.subscribe(CHANNELS)
        await router.confirmed(CHANNELS)
        for server in servers:
            server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await eventually(lambda: set(heard.gaps) == set(CHANNELS), within_s=2)
        await router.confirmed(CHANNELS)


@pytest.mark.parametrize("probes", [True, False])
async def test_F5_a_frozen_shard_is_noticed_by_the_probe_and_by_nothing_else(
    servers: tuple[ValkeyServer, ValkeyServer], probes: bool
) -> None:
    heard = Recorder()
    async with routing(ring_of(*servers), heard, probe_interval_s=0.5 if probes else 0) as router:
        router.subscribe(CHANNELS)
        await router.confirmed(CHANNELS)
        on_frozen = [channel for channel in CHANNELS if router.ring and router.ring.slot_of(channel) == "shard-0"]
        servers[0].freeze()
        if not probes:
            # The negative control: without the probe the connection looks well for as long as one cares to look.
            with pytest.raises(AssertionError):
                await eventually(lambda: not router.shards["shard-0"].connected, within_s=3)
            return
        await eventually(lambda: not router.shards["shard-0"].connected, within_s=3)
        for channel in CHANNELS:
            router.publish(channel, b"meanwhile")
        await eventually(lambda: len(heard.messages) == len(CHANNELS) - len(on_frozen), within_s=5)
        servers[0].thaw()
        await eventually(lambda: set(heard.gaps) == set(on_frozen), within_s=10)
        await eventually(lambda: len(heard.messages) == len(CHANNELS), within_s=5)
        assert router.shards["shard-0"].probe_failures_count >= 1


async def test_I6_a_server_that_hangs_while_we_connect_is_left_no_dead_connections(
    valkey_servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    server = valkey_servers()
    server.freeze()
    async with routing(ring_of(server), Recorder(), connected=False) as router:
        shard = router.shards["shard-0"]
        await eventually(lambda: "cannot connect" in caplog.text, within_s=CONNECT_TIMEOUT_S + 2)
        server.thaw()
        await eventually(lambda: shard.connected, within_s=5)
        ours = await eventually(lambda: server.command("CLIENT", "LIST").count(b"id="), within_s=5)
        assert ours == 2, "one of the router, one of this question"


async def test_the_probe_is_not_heard_by_the_listener(servers: tuple[ValkeyServer, ValkeyServer]) -> None:
    heard = Recorder()
    async with routing(ring_of(*servers), heard, member="m", probe_interval_s=0.1) as router:
        shard = router.shards["shard-0"]
        await eventually(lambda: shard.connected, within_s=5)
        subscribed = servers[0].command("PUBSUB", "NUMSUB", probe_channel("m").decode())
        await eventually(lambda: heard.bursts > 10, within_s=5)
        assert subscribed.endswith(b":1\r\n")
        assert heard.messages == []
        assert shard.connected


async def test_a_subscribe_during_an_outage_returns_and_a_gap_follows(
    servers: tuple[ValkeyServer, ValkeyServer],
) -> None:
    heard = Recorder()
    async with routing(ring_of(servers[0]), heard) as router:
        await eventually(lambda: router.shards["shard-0"].connected, within_s=5)
        servers[0].kill()
        router.subscribe(CHANNELS)
        await router.confirmed(CHANNELS)
        assert heard.gaps == []
        servers[0].start()
        await eventually(lambda: set(heard.gaps) == set(CHANNELS), within_s=10)


async def test_I5_what_waits_for_a_dead_shard_is_bounded_and_the_oldest_is_dropped(valkey_servers: Servers) -> None:
    server = valkey_servers()
    heard = Recorder()
    async with routing(ring_of(server), heard) as router:
        shard = router.shards["shard-0"]
        await eventually(lambda: shard.connected, within_s=5)
        server.kill()
        await eventually(lambda: not shard.connected, within_s=5)
        for n in range(MAX_HELD + 10):
            router.publish(b"loc:%d" % n, b"x")
        assert shard.dropped_count == 10


async def test_a_slot_with_a_new_address_takes_its_channels_along(valkey_servers: Servers) -> None:
    old, new = valkey_servers(), valkey_servers()
    heard = Recorder()
    async with routing(ring_of(old), heard) as router:
        router.subscribe(CHANNELS)
        await router.confirmed(CHANNELS)
        await router.apply(ring_of(new, epoch=2))
        await eventually(lambda: set(heard.gaps) == set(CHANNELS), within_s=5)
        router.publish(b"loc:1", b"there")
        await eventually(lambda: heard.messages == [(b"loc:1", b"there")], within_s=5)
        assert b":1\r\n" in new.command("PUBSUB", "NUMSUB", "loc:1")


async def test_a_publish_before_the_first_ring_is_dropped_and_counted() -> None:
    async with Router(Recorder(), member="test", probe_interval_s=5) as router:
        router.publish(b"loc:1", b"x")
        assert router.unrouted_count == 1


class TestResize:
    """A ring that goes from two shards to three, noticed by two processes at different moments."""

    async def test_F14_no_message_is_lost_or_heard_twice_whoever_notices_each_write_first(
        self, valkey_servers: Servers
    ) -> None:
        servers = [valkey_servers() for _ in range(3)]
        before, after = nodes_of(*servers[:2]), nodes_of(*servers)
        states = [
            RingState(1, before),
            RingState(1, before, pending=after),
            RingState(2, after, previous=before),
            RingState(2, after),
        ]
        heard = Recorder()
        sent: list[tuple[bytes, bytes]] = []
        async with routing(states[0], heard, "a") as receiver, routing(states[0], Recorder(), "b") as sender:
            receiver.subscribe(CHANNELS)
            await receiver.confirmed(CHANNELS)

            def publish(text: bytes) -> None:
                for channel in CHANNELS:
                    sender.publish(channel, text)
                    sent.append((channel, text))

            publish(b"before")
            for router in (receiver, sender):
                await router.apply(states[1])
                publish(b"while one is preparing")
            await eventually(lambda: receiver.prepared_epoch == 2 and sender.prepared_epoch == 2)
            # The order that hurts most: the receiver switches long before the sender.
            await receiver.apply(states[2])
            publish(b"the receiver has switched")
            await sender.apply(states[2])
            publish(b"both have switched")
            await eventually(lambda: len(heard.messages) == len(sent))
            for router in (receiver, sender):
                assert router.switched_epoch == 2
                await router.apply(states[3])
            publish(b"after")
            await eventually(lambda: len(heard.messages) >= len(sent))
            assert sorted(heard.messages) == sorted(sent)
            assert heard.gaps == []

    async def test_F14_without_the_overlap_messages_are_lost(self, valkey_servers: Servers) -> None:
        """The negative control: the receiver jumps to the new ring while the sender is still on the old one."""
        servers = [valkey_servers() for _ in range(3)]
        before, after = ring_of(*servers[:2]), ring_of(*servers, epoch=2)
        heard = Recorder()
        async with routing(before, heard, "a") as receiver, routing(before, Recorder(), "b") as sender:
            receiver.subscribe(CHANNELS)
            await receiver.confirmed(CHANNELS)
            await receiver.apply(after)
            await receiver.confirmed(CHANNELS)
            for channel in CHANNELS:
                sender.publish(channel, b"lost where it moved")
            await sender.apply(after)
            for channel in CHANNELS:
                sender.publish(channel, b"heard")
            await eventually(lambda: sum(text == b"heard" for _, text in heard.messages) == len(CHANNELS))
            assert len(heard.messages) < 2 * len(CHANNELS)
            assert heard.gaps, "what a jump may have lost is told"

    async def test_old_subscriptions_are_dropped_and_the_shards_of_no_ring_left(self, valkey_servers: Servers) -> None:
        servers = [valkey_servers() for _ in range(3)]
        before, after = nodes_of(*servers), nodes_of(*servers[:2])
        async with routing(RingState(1, before), Recorder()) as router:
            router.subscribe(CHANNELS)
            await router.confirmed(CHANNELS)
            await router.apply(RingState(1, before, pending=after))
            await eventually(lambda: router.prepared_epoch == 2)
            await router.apply(RingState(2, after, previous=before))
            assert set(router.shards) == set(before)
            await router.apply(RingState(2, after))
            assert set(router.shards) == set(after)
            assert sum(len(shard.subscriptions) for shard in router.shards.values()) == len(CHANNELS)

    async def test_an_aborted_resize_leaves_everything_as_it_was(self, valkey_servers: Servers) -> None:
        servers = [valkey_servers() for _ in range(3)]
        before, after = nodes_of(*servers[:2]), nodes_of(*servers)
        heard = Recorder()
        async with routing(RingState(1, before), heard) as router:
            router.subscribe(CHANNELS)
            await router.confirmed(CHANNELS)
            await router.apply(RingState(1, before, pending=after))
            await eventually(lambda: router.prepared_epoch == 2)
            await router.apply(RingState(1, before))
            assert set(router.shards) == set(before)
            for channel in CHANNELS:
                router.publish(channel, b"x")
            await eventually(lambda: len(heard.messages) == len(CHANNELS))
            assert heard.gaps == []

    async def test_who_subscribes_during_a_resize_hears_both_rings(self, valkey_servers: Servers) -> None:
        servers = [valkey_servers() for _ in range(3)]
        before, after = nodes_of(*servers[:2]), nodes_of(*servers)
        heard = Recorder()
        async with (
            routing(RingState(1, before), heard, "a") as receiver,
            routing(RingState(1, before), Recorder(), "b") as on_old,
            routing(RingState(2, after), Recorder(), "c") as on_new,
        ):
            await receiver.apply(RingState(1, before, pending=after))
            receiver.subscribe(CHANNELS)
            await receiver.confirmed(CHANNELS)
            for channel in CHANNELS:
                on_old.publish(channel, b"old ring")
                on_new.publish(channel, b"new ring")
            await eventually(lambda: len(heard.messages) == 2 * len(CHANNELS))

    async def test_a_resize_to_a_dead_shard_is_never_prepared(self, valkey_servers: Servers) -> None:
        server = valkey_servers()
        after = {**nodes_of(server), "shard-9": "unix:///nowhere/at/all"}
        async with routing(ring_of(server), Recorder()) as router:
            router.subscribe(CHANNELS)
            await router.confirmed(CHANNELS)
            await router.apply(RingState(1, nodes_of(server), pending=after))
            with pytest.raises(AssertionError):
                await eventually(lambda: router.prepared_epoch == 2, within_s=1)
            await router.apply(RingState(1, nodes_of(server)))
            assert set(router.shards) == {"shard-0"}

    async def test_a_channel_dropped_while_preparing_does_not_hold_up_the_resize(self, valkey_servers: Servers) -> None:
        servers = [valkey_servers() for _ in range(2)]
        before, after = nodes_of(servers[0]), nodes_of(*servers)
        async with routing(RingState(1, before), Recorder()) as router:
            router.subscribe(CHANNELS)
            await router.confirmed(CHANNELS)
            servers[1].freeze()
            await router.apply(RingState(1, before, pending=after))
            moved = [channel for channel in CHANNELS if router._owners_of(channel)[1].slot == "shard-1"]
            router.unsubscribe(moved)
            await eventually(lambda: router.prepared_epoch == 2)


async def test_a_shard_is_unreachable_once_it_has_been_down_for_three_seconds(valkey_servers: Servers) -> None:
    server = valkey_servers()
    async with routing(ring_of(server), Recorder()) as router:
        await eventually(lambda: router.reachable(b"loc:1"))
        assert router.unreachable() == ()
        server.kill()
        await eventually(lambda: not router.reachable(b"loc:1"))
        assert router.unreachable() == ()
        await eventually(lambda: router.unreachable() == ("shard-0",), within_s=DOWN_AFTER_S + 1)
        server.start()
        await eventually(lambda: router.unreachable() == ())
