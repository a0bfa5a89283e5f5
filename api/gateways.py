"""Which gateway a client is sent to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from nearby.ports import Discovery, Member, MemberState, Role


class Gateways:
    """The live gateways and how busy each is.

    A gateway announces its connections only now and then. Clients sent there since count as connected, or all of
    a second's newcomers would go to the one that was emptiest at its beginning.
    """

    def __init__(self) -> None:
        self._members: Mapping[str, Member] = {}
        self._sent: Counter[str] = Counter()

    async def follow(self, discovery: Discovery) -> None:
        """Keep up with discovery until cancelled."""
        async for members in discovery.watch_members(Role.GATEWAY):
            self.update(members)

    def update(self, members: Mapping[str, Member]) -> None:
        """Take ``members`` as the live gateways, by id."""
        for member_id in list(self._sent):
            if members.get(member_id) != self._members.get(member_id):
                del self._sent[member_id]
        self._members = dict(members)

    def choose(self) -> str | None:
        """Return the URL of the least loaded gateway that is serving, or ``None`` if there is none."""
        serving = [member for member in self._members.values() if member.state is MemberState.SERVING and member.url]
        if not serving:
            return None
        chosen = min(serving, key=lambda member: (self._load(member), member.member_id))
        self._sent[chosen.member_id] += 1
        return chosen.url

    def _load(self, member: Member) -> int:
        return member.connections + self._sent[member.member_id]
