"""The client's map of friends (protocol §3), pure: it can be fed by hand in a REPL.

Invariant: the location shown for a friend never gets older, not even over a reconnect to another gateway.
"""

from __future__ import annotations

from nearby.messages import FriendEntry, Snapshot, Update


class FriendMap:
    """Friends now nearby, by user id.

    ``refused_count`` counts entries that were older than what had already been shown for that friend; a
    server that keeps the protocol never sends one.
    """

    def __init__(self) -> None:
        self.friends: dict[str, FriendEntry] = {}
        self.refused_count = 0
        # Outlives a friend's leaving, so that one who comes back does not come back with an older location.
        self._newest_ms: dict[str, int] = {}

    def apply(self, message: Snapshot | Update) -> None:
        """Take one message: a snapshot replaces the whole map, an update changes entries and removes others.

        ``self.friends`` stays the same dictionary.
        """
        if isinstance(message, Snapshot):
            self._replace(message)
            return
        for entry in message.friends:
            if self._is_news(entry):
                self.friends[entry.user_id] = entry
        for gone in message.gone:
            self.friends.pop(gone.user_id, None)

    def _replace(self, snapshot: Snapshot) -> None:
        before = dict(self.friends)
        self.friends.clear()
        for entry in snapshot.friends:
            if self._is_news(entry):
                self.friends[entry.user_id] = entry
            elif entry.user_id in before:
                # Nearby all the same: keep the newer location that is already on the screen.
                self.friends[entry.user_id] = before[entry.user_id]

    def _is_news(self, entry: FriendEntry) -> bool:
        if entry.updated_at_ms < self._newest_ms.get(entry.user_id, 0):
            self.refused_count += 1
            return False
        self._newest_ms[entry.user_id] = entry.updated_at_ms
        return True
