"""One client's side of the wire protocol, apart from all I/O: frames in, effects out. Pure.

The session authenticates, decodes, checks and limits. What it decides it says as effects, which ``gateway.py``
carries out. Times are given by the caller, in Unix milliseconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from nearby.close_codes import CloseCode
from nearby.codecs import JSON, Codec
from nearby.errors import TokenError
from nearby.fixes import recorded_at, speed_mps
from nearby.messages import (
    MAX_BATCH_POINTS,
    AuthMessage,
    AuthOk,
    BatchMessage,
    ClientMessage,
    Error,
    InvalidMessage,
    LocationMessage,
    PingMessage,
    Pong,
    RejectedPoint,
    ResyncMessage,
    ServerMessage,
    SettingsMessage,
    TokenExpiring,
)
from nearby.model import Location
from nearby.settings import LimitSettings
from nearby.tokens import AccessToken, TokenKeys

AUTH_DEADLINE_MS = 5_000
MAX_FRAME_BEFORE_AUTH_BYTES = 4 * 1024
MAX_FRAME_BYTES = 16 * 1024
MAX_INVALID_IN_A_ROW = 10
MAX_RATE_LIMITED = 50
EXPIRY_NOTICE_MS = 60_000
SILENT_INTERVALS = 3
PING_DEADLINE_MS = 10_000


# ---------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to the client."""

    message: ServerMessage


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; ``reason`` is for the client's developer."""

    code: CloseCode
    reason: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Send a WebSocket ping."""


@dataclass(frozen=True, slots=True)
class Admit:
    """The client has authenticated for the first time: welcome it and load its friends."""

    token: AccessToken


@dataclass(frozen=True, slots=True)
class Report:
    """A location to store and, unless ``flagged``, to show to friends; to be acknowledged with ``seq``."""

    location: Location
    seq: int | None
    flagged: bool


@dataclass(frozen=True, slots=True)
class StoreBatch:
    """Points for the history, to be acknowledged with ``seq`` once all of them are durably stored."""

    points: tuple[Location, ...]
    rejected: tuple[RejectedPoint, ...]
    seq: int | None


@dataclass(frozen=True, slots=True)
class ChangeRadius:
    """Show friends within ``radius_m`` metres from now on, beginning with a snapshot."""

    radius_m: float


@dataclass(frozen=True, slots=True)
class Resync:
    """Send a snapshot."""


@dataclass(frozen=True, slots=True)
class AnswerPing:
    """Send a WebSocket pong with ``payload``."""

    payload: bytes


Effect = Send | Close | Ping | Admit | Report | StoreBatch | ChangeRadius | Resync | AnswerPing


class Phase(enum.Enum):
    """Where a session is; it only ever moves forward."""

    AUTHENTICATING = 1
    OPEN = 2
    CLOSING = 3


# ---------------------------------------------------------------------------------------------- session


class Session:
    """The protocol state of one connection, whose client writes in ``codec``.

    It ends at the age of ``max_age_ms``, if that is not 0.
    """

    __slots__ = (
        "_bucket",
        "_bucket_at_ms",
        "_codec",
        "_expiry_told",
        "_invalid_in_a_row",
        "_keys",
        "_last",
        "_limits",
        "_max_age_ms",
        "_opened_at_ms",
        "_pinged_at_ms",
        "_rate_limited",
        "_seen_at_ms",
        "_suspect",
        "phase",
        "token",
    )

    def __init__(
        self, keys: TokenKeys, limits: LimitSettings, now_ms: int, max_age_ms: int = 0, codec: Codec = JSON
    ) -> None:
        self.phase = Phase.AUTHENTICATING
        self.token: AccessToken | None = None
        self._keys = keys
        self._limits = limits
        self._max_age_ms = max_age_ms
        self._codec = codec
        self._opened_at_ms = now_ms
        self._seen_at_ms = now_ms
        self._pinged_at_ms: int | None = None
        self._bucket = float(limits.message_burst)
        self._bucket_at_ms = now_ms
        self._rate_limited = 0
        self._invalid_in_a_row = 0
        self._expiry_told = False
        self._last: Location | None = None
        self._suspect: Location | None = None

    def admit(self, token: AccessToken) -> list[Effect]:
        """The client is authenticated by ``token``, from the upgrade or the first frame."""
        assert self.phase is Phase.AUTHENTICATING
        self.phase = Phase.OPEN
        self.token = token
        return [Admit(token)]

    def last_known(self, location: Location) -> None:
        """Take ``location``, from the cache, as where this user was before."""
        if self._last is None:
            self._last = location

    def close(self, code: CloseCode, reason: str) -> list[Effect]:
        """End the session; idempotent."""
        if self.phase is Phase.CLOSING:
            return []
        self.phase = Phase.CLOSING
        return [Close(code, reason)]

    # ------------------------------------------------------------------------------------------ frames

    def seen(self, now_ms: int) -> None:
        """Any sign of life, a pong for one."""
        self._seen_at_ms = now_ms
        self._pinged_at_ms = None

    def ping(self, payload: bytes, now_ms: int) -> list[Effect]:
        """Take a WebSocket ping. It counts as a message; beyond the limit it is not answered."""
        effects = self._control(now_ms)
        return [AnswerPing(payload)] if effects is None else effects

    def pong(self, now_ms: int, *, asked: bool) -> list[Effect]:
        """Take a WebSocket pong. One that nobody ``asked`` for counts as a message."""
        asked = asked or self._pinged_at_ms is not None
        self.seen(now_ms)
        return [] if asked else self._control(now_ms) or []

    def _control(self, now_ms: int) -> list[Effect] | None:
        """Return ``None`` for a control frame within the rate, and what to do about one beyond it."""
        if self.phase is Phase.CLOSING:
            return []
        self.seen(now_ms)
        if not self._take_token(now_ms):
            return None
        return self._count_rate_limited()

    def receive(self, data: bytes, now_ms: int, dated_ms: int | None = None) -> list[Effect]:
        """Take one message and return what to do about it.

        ``dated_ms`` is the same instant by the clock that dates locations, where that is another.
        """
        if self.phase is Phase.CLOSING:
            return []
        self.seen(now_ms)
        if self.phase is Phase.AUTHENTICATING and len(data) > MAX_FRAME_BEFORE_AUTH_BYTES:
            return self.close(CloseCode.TOO_BIG, "frame before authentication too big")
        try:
            message = self._codec.decode_client(data)
        except InvalidMessage as problem:
            return self._refuse(problem, data)
        retry_after_ms = self._take_token(now_ms)
        if retry_after_ms:
            return self._rate_limit(message, retry_after_ms)
        try:
            effects = self._act(message, now_ms, now_ms if dated_ms is None else dated_ms)
        except InvalidMessage as problem:
            return self._refuse(problem, data)
        self._invalid_in_a_row = 0
        return effects

    def _refuse(self, problem: InvalidMessage, data: bytes) -> list[Effect]:
        if not self._codec.binary and not _is_utf8(data):
            return self.close(CloseCode.INVALID_TEXT, "not UTF-8")
        self._invalid_in_a_row += 1
        told: list[Effect] = [Send(Error(problem.code, problem.detail, problem.seq))]
        if self._invalid_in_a_row >= MAX_INVALID_IN_A_ROW:
            told += self.close(CloseCode.TOO_MANY_INVALID, f"{MAX_INVALID_IN_A_ROW} invalid messages in a row")
        return told

    def _rate_limit(self, message: ClientMessage, retry_after_ms: int) -> list[Effect]:
        close = self._count_rate_limited()
        if close:
            return close
        seq = getattr(message, "seq", None)
        limits = self._limits
        detail = f"more than {limits.message_rate:g} messages/s after a burst of {limits.message_burst}"
        return [Send(Error("rate_limited", detail, seq, retry_after_ms))]

    def _count_rate_limited(self) -> list[Effect]:
        self._rate_limited += 1
        if self._rate_limited > MAX_RATE_LIMITED:
            return self.close(CloseCode.RATE_LIMIT_IGNORED, "rate limit ignored")
        return []

    def _take_token(self, now_ms: int) -> int:
        """Take one token from the bucket; return 0, or the milliseconds until there is one."""
        rate = self._limits.message_rate
        if not rate:
            return 0
        burst = self._limits.message_burst
        elapsed_s = max(0, now_ms - self._bucket_at_ms) / 1000
        self._bucket = min(burst, self._bucket + elapsed_s * rate)
        self._bucket_at_ms = now_ms
        if self._bucket >= 1:
            self._bucket -= 1
            if self._bucket >= burst - 1:
                self._rate_limited = 0  # it has been quiet long enough
            return 0
        return max(1, round((1 - self._bucket) / rate * 1000))

    def _act(self, message: ClientMessage, now_ms: int, dated_ms: int) -> list[Effect]:
        if isinstance(message, AuthMessage):
            return self._authenticate(message, now_ms)
        if self.phase is Phase.AUTHENTICATING:
            raise InvalidMessage("not_authenticated", "authenticate first", getattr(message, "seq", None))
        match message:
            case LocationMessage():
                recorded_at_ms = recorded_at(message, dated_ms, message.seq)
                location = message.at(recorded_at_ms)
                return [Report(location, message.seq, flagged=not self._plausible(location))]
            case BatchMessage():
                return [self._batch(message, dated_ms)]
            case SettingsMessage():
                return [ChangeRadius(message.radius_m)]
            case ResyncMessage():
                return [Resync()]
            case PingMessage():
                return [Send(Pong(message.id))]

    def _authenticate(self, message: AuthMessage, now_ms: int) -> list[Effect]:
        try:
            token = self._keys.verify(message.token, now_ms)
        except TokenError as error:
            if self.phase is Phase.AUTHENTICATING:
                return self.close(CloseCode.TOKEN_EXPIRED, "token refused")
            raise InvalidMessage("not_authenticated", "token refused") from error
        if self.token is None:
            return self.admit(token)
        if token.user_id != self.token.user_id:
            raise InvalidMessage("not_authenticated", "the token is another user's")
        self.token = token
        self._expiry_told = False
        return [Send(AuthOk(token.expires_at_ms))]

    # --------------------------------------------------------------------------------------- locations

    def _batch(self, message: BatchMessage, now_ms: int) -> StoreBatch:
        if len(message.points) > MAX_BATCH_POINTS:
            detail = f"{len(message.points)} points; at most {MAX_BATCH_POINTS}"
            raise InvalidMessage("too_many_points", detail, message.seq)
        points, rejected = [], []
        for index, raw in enumerate(message.points):
            try:
                point = self._codec.decode_point(raw)
                points.append(point.at(recorded_at(point, now_ms, None)))
            except InvalidMessage as problem:
                rejected.append(RejectedPoint(index, problem.code))
        return StoreBatch(tuple(points), tuple(rejected), message.seq)

    def _plausible(self, location: Location) -> bool:
        """Whether friends may see this fix, by its accuracy and by the speed that it implies.

        A jump is held back until a second fix agrees with it: trains, planes and phones switched on in another
        city are real, a single wild fix is not.
        """
        limits = self._limits
        if limits.max_accuracy_m and (location.accuracy_m or 0) > limits.max_accuracy_m:
            return False
        if not limits.max_speed_mps:
            return True
        if self._last is not None and location.recorded_at_ms <= self._last.recorded_at_ms:
            return True  # late: the cache will refuse it
        believed = self._last is None or speed_mps(self._last, location) <= limits.max_speed_mps
        if not believed and self._suspect is not None:
            believed = speed_mps(self._suspect, location) <= limits.max_speed_mps
        if believed:
            self._last, self._suspect = location, None
        else:
            self._suspect = location
        return believed

    # ------------------------------------------------------------------------------------------- timers

    def tick(self, now_ms: int) -> list[Effect]:
        """Return what is due by the clock; to be called about once a second."""
        if self.phase is Phase.CLOSING:
            return []
        if self.token is None:
            if now_ms - self._opened_at_ms >= AUTH_DEADLINE_MS:
                return self.close(CloseCode.TOKEN_EXPIRED, "no token in time")
            return []
        if now_ms >= self.token.expires_at_ms:
            return self.close(CloseCode.TOKEN_EXPIRED, "token expired")
        if self._max_age_ms and now_ms - self._opened_at_ms >= self._max_age_ms:
            return self.close(CloseCode.MAXIMUM_AGE, "time to move on")
        effects: list[Effect] = []
        if not self._expiry_told and now_ms >= self.token.expires_at_ms - EXPIRY_NOTICE_MS:
            self._expiry_told = True
            effects.append(Send(TokenExpiring(self.token.expires_at_ms)))
        if self._pinged_at_ms is not None:
            if now_ms - self._pinged_at_ms >= PING_DEADLINE_MS:
                effects += self.close(CloseCode.SILENT, "silent too long")
        elif now_ms - self._seen_at_ms >= SILENT_INTERVALS * self._limits.report_interval_s * 1000:
            self._pinged_at_ms = now_ms
            effects.append(Ping())
        return effects


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
