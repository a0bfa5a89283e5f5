"""What a gateway keeps of each friend who is watched there: ``python -m benchmarks.entry_memory``.

One viewer for each friend, as in a large deployment, where two people who watch the same friend are hardly ever at the
same gateway process. Memory of the hub alone, with the location, its text and its place among those that expire.
"""

from __future__ import annotations

import os
import uuid

from benchmarks.processes import resident_bytes
from nearby.codecs import JSON
from nearby.model import FriendEdge, UserId
from nearby.record import LocationRecord
from ws_gateway.hub import Hub
from ws_gateway.viewer import NOBODY, Viewer

VIEWERS, FRIENDS = 2_500, 40
NOW_MS = 1_790_000_000_000


def _user() -> UserId:
    return UserId(str(uuid.uuid4()))


def main() -> None:
    """Measure and print."""
    hub = Hub(ttl_ms=600_000, clock=lambda: NOW_MS)
    viewers = [Viewer(_user(), 8_047, NOBODY) for _ in range(VIEWERS)]
    before = resident_bytes(os.getpid())
    for viewer in viewers:
        for _ in range(FRIENDS):
            hub.add_friend(viewer, FriendEdge(_user()))
    for number, (channel, entry) in enumerate(hub.entries.items()):
        lat_deg = 41.0 + number / 1e6
        hub.observe(channel, LocationRecord(NOW_MS * 1000, NOW_MS, lat_deg, -87.63, 12.5, 1.4, 270.0), NOW_MS)
        entry.encode(JSON)
    print(f"{(resident_bytes(os.getpid()) - before) / len(hub.entries):.0f} bytes per friend")


if __name__ == "__main__":
    main()
