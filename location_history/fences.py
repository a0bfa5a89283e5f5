"""Fences in the history stream: the script that puts one up, and what lies behind it. Pure apart from that script.

The fences of a user stand in one key beside the streams, as text: ``FROM,TO,AT,UNTIL;`` for each, milliseconds. Writers
read the keys of a batch's users with one MGET before each attempt to store the batch. An entry is in the stream until
a writer is done with it, so a fence that was put up before an attempt is seen by it, and what an attempt begun before
brings into the store is found there once the entry is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nearby.model import HistoryPoint, UserId
from nearby.ports import HistoryFence

FENCE_KEPT_MS = 8 * 86_400_000
"""How long a fence stands at least: longer than an entry waits, since nothing recorded 7 days ago is taken."""

# KEYS: the fences, the stream. ARGV: from, to, lasting, all in milliseconds, and FENCE_KEPT_MS.
# Returns (at, until). An id of the stream may be ahead of the clock after a step backwards, and more entries may come
# within this millisecond: `at` is beyond both. A fence is dropped once its last entry cannot be in the stream any more,
# so the text stays as short as what happens within the stream's age.
FENCE_SCRIPT = """
local function instant(id) return tonumber(string.match(id, '^%d+')) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local at, oldest = now, now
if redis.call('EXISTS', KEYS[2]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then at = math.max(at, instant(info[i + 1])) end
    if info[i] == 'first-entry' and info[i + 1] then oldest = instant(info[i + 1][1]) end
  end
end
at = at + 1
local kept = {}
for fence, untill in string.gmatch(redis.call('GET', KEYS[1]) or '', '(%d+,%d+,%d+,(%d+);)') do
  if tonumber(untill) > oldest then kept[#kept + 1] = fence end
end
local stands_until = at + tonumber(ARGV[3])
kept[#kept + 1] = string.format('%s,%s,%.0f,%.0f;', ARGV[1], ARGV[2], at, stands_until)
redis.call('SET', KEYS[1], table.concat(kept), 'PX', string.format('%.0f', tonumber(ARGV[3]) + tonumber(ARGV[4])))
return {at, stands_until}
"""


def fence_key(user_id: UserId) -> str:
    """Return the key under which the fences of ``user_id`` stand."""
    return f"history:fences:{user_id}"


def parse_fences(user_id: UserId, text: bytes | None) -> list[HistoryFence]:
    """Return the fences in ``text``, the value of the key of ``user_id``.

    Raises:
        ValueError: it is none of ours.
    """
    lines = (text or b"").decode().split(";")
    return [HistoryFence(user_id, *map(int, line.split(","))) for line in lines if line]


def is_behind(point: HistoryPoint, fence: HistoryFence) -> bool:
    """Whether ``point``, accepted by the stream, lies behind ``fence``."""
    return (
        point.user_id == fence.user_id
        and fence.from_ms <= point.location.recorded_at_ms < fence.to_ms
        and point.accepted_at_ms < fence.until_ms
    )


def is_fenced(point: HistoryPoint, fences: Mapping[UserId, Sequence[HistoryFence]]) -> bool:
    """Whether ``point`` lies behind one of ``fences``, which are given by user."""
    return any(is_behind(point, fence) for fence in fences.get(point.user_id, ()))
