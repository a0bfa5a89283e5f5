"""What the client raises.

::

    NearbyError
    ├── ApiError         the API refused a request (a problem+json answer)
    ├── ApiUnreachable   the API did not answer, or not in HTTP
    └── SessionEnded     the server asked this client not to come back, or its token cannot be renewed
"""

from __future__ import annotations

from nearby.errors import NearbyError


class ApiError(NearbyError):
    """The API refused a request. ``code`` is stable; ``detail`` is for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        super().__init__(f"{status} {code}: {detail}")


class ApiUnreachable(NearbyError):
    """The API did not answer in time. What was asked may or may not have happened."""


class SessionEnded(NearbyError):
    """The client will not reconnect.

    ``code`` is the WebSocket close code that says so (protocol §5), or the HTTP status of a refused upgrade.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"session ended with {code}: {reason}" if reason else f"session ended with {code}")
