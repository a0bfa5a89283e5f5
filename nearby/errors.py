"""Every error that nearby raises on purpose.

::

    NearbyError
    ├── SettingsError        a variable of the environment is missing or wrong
    ├── TokenError           an access token that must not be believed
    ├── RecordError          bytes that are not a location record
    ├── RingError            a ring that must not be used: empty, unparsable or older
    ├── RingConflict         somebody else changed the ring meanwhile
    ├── FeedBroken           changes of the social graph are lost to this reader
    ├── StoreUnavailable     one of our stores did not answer (ours to heal; the caller may retry)
    └── SocialError          a request that the social graph refuses (the caller's to mend)
        ├── NotFound
        ├── Conflict
        ├── NotAllowed
        └── QuotaSpent       allowed again later
"""

from __future__ import annotations


class NearbyError(Exception):
    """The root of the tree."""


class SettingsError(NearbyError):
    """A setting is missing or wrong. The message names the variable, its value and what is allowed."""

    def __init__(self, variable: str, value: str | None, allowed: str) -> None:
        self.variable = variable
        self.value = value
        self.allowed = allowed
        shown = "is not set" if value is None else f"is {value!r}"
        super().__init__(f"{variable} {shown}; allowed: {allowed}")


class TokenError(NearbyError):
    """A token was refused. ``reason`` is for logs and metrics; it never quotes the token."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class RecordError(NearbyError):
    """Bytes that are not a location record of a format we know."""


class RingError(NearbyError):
    """A ring that must not be used; the last good one stays in force."""


class RingConflict(NearbyError):
    """The ring is not the one that was expected; read it again and decide again."""


class StoreUnavailable(NearbyError):
    """A store did not answer or refused to work.

    ``store`` names it (``location_cache``, ``history_stream``, ``history``, ``social_graph``, ``discovery``).
    What was asked may or may not have happened.
    """

    def __init__(self, store: str, detail: str) -> None:
        self.store = store
        self.detail = detail
        super().__init__(f"{store} is unavailable: {detail}")


class FeedBroken(NearbyError):
    """The change feed cannot be continued where its reader stopped; what the changes told must be read anew."""


class SocialError(NearbyError):
    """A request that the social graph refuses. ``code`` is stable and goes to the client."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")


class NotFound(SocialError):
    """The object does not exist, or its existence is not this caller's to know."""


class Conflict(SocialError):
    """The state of the object does not permit the request (a taken handle, a request already answered)."""


class NotAllowed(SocialError):
    """The caller is known and may not do this."""


class QuotaSpent(SocialError):
    """The caller has done this as often as allowed; ``retry_after_s`` seconds from now it is allowed again."""

    def __init__(self, code: str, detail: str, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(code, detail)
