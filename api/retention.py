"""What a retention lets be read. Pure."""

from __future__ import annotations


def kept_from_ms(retention_s: int | None, now_ms: int) -> int:
    """Return the instant before which nothing is shown: older points may still wait to be deleted.

    ``retention_s`` as in the history settings: 0, nothing is shown at all; ``None``, as long as the store keeps it.
    """
    if retention_s is None:
        return 0
    return now_ms - retention_s * 1000 if retention_s else now_ms + 2**40
