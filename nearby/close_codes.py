"""The close codes of the wire protocol (protocol §5), and what a client does after each."""

from __future__ import annotations

import enum


class CloseCode(enum.IntEnum):
    """Codes below 4000 are those of RFC 6455 §7.4.1 and the IANA registry; the rest are ours."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    ABNORMAL = 1006
    """Never sent: the connection ended without a close frame."""
    INVALID_TEXT = 1007
    TOO_BIG = 1009
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    TOO_MANY_INVALID = 4400
    TOKEN_EXPIRED = 4401
    NOT_ALLOWED = 4403
    SILENT = 4408
    REPLACED = 4409
    MAXIMUM_AGE = 4410
    TOO_SLOW = 4413
    RATE_LIMIT_IGNORED = 4429
    SERVER_ERROR = 4500


class AfterClose(enum.Enum):
    """What a client does after a close."""

    RECONNECT = "reconnect with full jitter"
    RENEW_TOKEN = "get a new token, then reconnect"
    WAIT_A_MINUTE = "reconnect after 60 s"
    STOP = "do not reconnect"


_AFTER = {
    CloseCode.PROTOCOL_ERROR: AfterClose.STOP,
    CloseCode.UNSUPPORTED_DATA: AfterClose.STOP,
    CloseCode.INVALID_TEXT: AfterClose.STOP,
    CloseCode.TOO_BIG: AfterClose.STOP,
    CloseCode.TOO_MANY_INVALID: AfterClose.STOP,
    CloseCode.TOKEN_EXPIRED: AfterClose.RENEW_TOKEN,
    CloseCode.NOT_ALLOWED: AfterClose.STOP,
    CloseCode.REPLACED: AfterClose.STOP,
    CloseCode.RATE_LIMIT_IGNORED: AfterClose.WAIT_A_MINUTE,
}


def after_close(code: int) -> AfterClose:
    """Return what protocol §5 asks of a client after ``code``; unknown codes and 1006 mean reconnect."""
    return _AFTER.get(code, AfterClose.RECONNECT)  # type: ignore[call-overload, no-any-return]
