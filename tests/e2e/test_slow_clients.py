"""Clients that stop reading, or hardly read: gone within 15 s, and nobody else notices (F17, I5)."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.gauges import metrics, resident_bytes
from tests.support.phones import Phones, percentile, phones
from tests.support.seeding import seed
from tests.support.stack import running_stack

pytestmark = pytest.mark.serial

CLIENTS = int(os.environ.get("NEARBY_TEST_CLIENTS", "1000"))
FRIENDS, REPORT_S = 40, 4.0
CLOSED_WITHIN_S = 15.0
SETTLED_S = 3.0
"""Those who have just connected are shown everybody, and everybody is shown them."""
MEASURED_S = 6.0
NOISE_MS = 200
"""Latencies are of milliseconds; a machine that does other work adds this, a loop that stalls adds seconds."""
ARGUMENTS = ("--api-port", "0", "--gateway-ports", "0", "--shards", "2", "--ephemeral")
SETTINGS = {"NEARBY_CONNECT_RATE": "0", "NEARBY_REPORT_INTERVAL_S": "10"}


@pytest.mark.parametrize("kind", ["frozen", "one byte a second"])
async def test_F17_clients_that_do_not_read_are_closed_and_the_others_unaffected(tmp_path: Path, kind: str) -> None:
    async with running_stack(tmp_path, SETTINGS, ARGUMENTS) as stack:
        (gateway,) = stack.gateways
        tokens = list(seed(stack.data_dir, CLIENTS, FRIENDS).values())

        async def everybody_came() -> bool:
            return (await metrics(gateway))["connections"] == CLIENTS

        stuck = tokens[::10]  # spread over the ring of friends, so that everybody has some
        others = [token for index, token in enumerate(tokens) if index % 10]
        slow = kind != "frozen"
        async with phones(gateway.ws_url, others, REPORT_S) as reading:
            await eventually(lambda: reading.connected == len(others), within_s=40)
            before: list[int] = await settled(reading) if slow else []
            async with phones(gateway.ws_url, stuck, REPORT_S, slow=slow) as stopping:
                if not slow:
                    await eventually(lambda: stopping.connected == len(stuck), within_s=20)
                    before = await settled(reading)
                    stopping.freeze()
                stopped_at_s = time.monotonic()
                before_bytes = resident_bytes(gateway)
                if slow:
                    await eventually(everybody_came, within_s=20)
                    await asyncio.sleep(SETTLED_S)
                reading.latencies_ms.clear()

                async def all_closed() -> bool:
                    now = await metrics(gateway)
                    return now["connections"] == len(others) and _closes(now, "4413") == len(stuck)

                await eventually(all_closed, within_s=CLOSED_WITHIN_S + 5)
                closed_after_s = time.monotonic() - stopped_at_s
                during = reading.latencies_ms[:]
                after_bytes = resident_bytes(gateway)
        p99s = [percentile(sample, 99) for sample in (before, during)]
        print(  # noqa: T201 - shown with -s or on failure
            f"{len(stuck)} of {CLIENTS} ({kind}) closed after {closed_after_s:.1f} s; p99 of the others {p99s} ms; "
            f"memory {before_bytes >> 20} -> {after_bytes >> 20} MB"
        )
        assert closed_after_s <= CLOSED_WITHIN_S
        assert after_bytes <= before_bytes + (16 << 20)
        assert reading.closes == {}
        assert min(len(before), len(during)) > 100
        assert p99s[1] <= 1.2 * p99s[0] + NOISE_MS


async def settled(reading: Phones) -> list[int]:
    """Return the latencies in milliseconds of some seconds in which nothing happens."""
    await asyncio.sleep(SETTLED_S)
    reading.latencies_ms.clear()
    await asyncio.sleep(MEASURED_S)
    return reading.latencies_ms[:]


def _closes(now: dict[str, float], code: str) -> float:
    return sum(value for name, value in now.items() if name.startswith("connections_closed_total") and code in name)
