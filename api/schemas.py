"""The bodies of requests and answers, as pydantic models.

Requests are closed: an unknown field or a value of another type is refused. Answers hold exactly their fields, so
nothing slips out that is not declared here. Names end in their unit; instants are Unix milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from nearby.model import MAX_SEQ, UserId
from social_graph.friendships import Friend
from social_graph.requests import FriendRequest
from social_graph.users import HANDLE, Person

MAX_PASSWORD_CHARACTERS = 1024


def encodable(password: SecretStr) -> SecretStr:
    """Refuse a lone surrogate, which passes through JSON but has no UTF-8 to be hashed."""
    password.get_secret_value().encode()
    return password


Handle = Annotated[str, Field(pattern=HANDLE)]
AnyHandle = Annotated[str, Field(max_length=30)]
NewPassword = Annotated[SecretStr, Field(min_length=10, max_length=MAX_PASSWORD_CHARACTERS), AfterValidator(encodable)]
AnyPassword = Annotated[SecretStr, Field(max_length=MAX_PASSWORD_CHARACTERS), AfterValidator(encodable)]
DisplayName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$"),
]
InstantMs = Annotated[int, Field(ge=0, le=MAX_SEQ)]
# Absent, not null, where the device did not say.
OptionalFloat = Annotated[float | None, Field(exclude_if=lambda value: value is None)]
JsonUuid = Annotated[UUID, Field(strict=False)]


class Request(BaseModel):
    """A body that may hold nothing but its fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


# ------------------------------------------------------------------------------------------ requests


class SignUp(Request):
    """A new user."""

    handle: Handle
    password: NewPassword
    display_name: DisplayName


class LogIn(Request):
    """A handle and its password."""

    handle: AnyHandle
    password: AnyPassword


class Refresh(Request):
    """A refresh token, good for one use."""

    refresh_token: Annotated[SecretStr, Field(max_length=200), AfterValidator(encodable)]


class OutsideToken(Request):
    """A token of the outside issuer: a signed JSON Web Token that names us as its audience."""

    token: Annotated[SecretStr, Field(max_length=8192), AfterValidator(encodable)]


class MeChange(Request):
    """What to change about oneself; a new password logs out everywhere."""

    display_name: DisplayName | None = None
    password: NewPassword | None = None


class AccountDeletion(Request):
    """The password of the account, for a client that asks for it once more."""

    password: AnyPassword | None = None


class NewFriendRequest(Request):
    """Whom to ask: exactly one of the two."""

    user_id: JsonUuid | None = None
    handle: AnyHandle | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> NewFriendRequest:
        if (self.user_id is None) == (self.handle is None):
            raise ValueError("give either user_id or handle")
        return self


# ------------------------------------------------------------------------------------------- answers


class PersonBody(BaseModel):
    """A user as others may know them."""

    user_id: str
    handle: str
    display_name: str

    @classmethod
    def of(cls, person: Person) -> PersonBody:
        """Return ``person`` as a body."""
        return cls(user_id=person.user_id, handle=person.handle, display_name=person.display_name)


class FriendBody(PersonBody):
    """A friend: since when, and how exactly I let them see where I am."""

    since_ms: int
    sharing: Literal["exact", "approximate", "off"]

    @classmethod
    def of_friend(cls, friend: Friend) -> FriendBody:
        """Return ``friend`` as a body."""
        # What comes from our own database needs no validation, which costs more than reading it.
        return cls.model_construct(
            user_id=friend.user_id,
            handle=friend.handle,
            display_name=friend.display_name,
            since_ms=friend.since_ms,
            sharing=friend.sharing,
        )


class FriendPageBody(BaseModel):
    """Friends; ``next_cursor`` is null at the end."""

    items: list[FriendBody]
    next_cursor: str | None


class TokensBody(BaseModel):
    """An access token and the refresh token that earns the next."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"
    expires_in_s: int


class SentRequestBody(BaseModel):
    """A friend request that waits for an answer."""

    request_id: str
    to: PersonBody

    @classmethod
    def of(cls, request: FriendRequest) -> SentRequestBody:
        """Return ``request`` as its sender sees it."""
        return cls(request_id=request.request_id, to=PersonBody.of(request.addressee))


class FriendRequestBody(BaseModel):
    """A pending friend request with both its sides."""

    model_config = ConfigDict(serialize_by_alias=True)

    request_id: str
    sender: Annotated[PersonBody, Field(alias="from")]
    to: PersonBody
    created_ms: int

    @classmethod
    def of(cls, request: FriendRequest) -> FriendRequestBody:
        """Return ``request`` as a body."""
        sides = {"from": PersonBody.of(request.sender), "to": PersonBody.of(request.addressee)}
        return cls.model_validate({"request_id": request.request_id, "created_ms": request.created_ms, **sides})


class FriendRequestPageBody(BaseModel):
    """Friend requests, newest first; ``next_cursor`` is null at the end."""

    items: list[FriendRequestBody]
    next_cursor: str | None


class ErasureBody(BaseModel):
    """An erasure that was begun, and goes on however long it takes."""

    erasure_id: str


class FriendEntryBody(BaseModel):
    """A friend on my map, as in a ``snapshot``; what the device did not say is absent."""

    user_id: str
    lat: float
    lon: float
    distance_m: int
    updated_at_ms: int
    precision: Literal["exact", "approximate"]
    accuracy_m: OptionalFloat = None
    speed_mps: OptionalFloat = None
    heading_deg: OptionalFloat = None


class NearbyBody(BaseModel):
    """Friends within the radius, nearest first."""

    friends: list[FriendEntryBody]


class HistoryPointBody(BaseModel):
    """Where I was. ``flagged``: kept, but never shown to friends; what the device did not say is absent."""

    lat: float
    lon: float
    recorded_at_ms: int
    accuracy_m: OptionalFloat = None
    speed_mps: OptionalFloat = None
    heading_deg: OptionalFloat = None
    flagged: bool


class HistoryPageBody(BaseModel):
    """Points, newest first; ``next_cursor`` is null at the end."""

    items: list[HistoryPointBody]
    next_cursor: str | None


class GatewayBody(BaseModel):
    """Where to open the WebSocket."""

    url: str


def user_id_of(value: UUID) -> UserId:
    """Return a UUID of a request as a user id."""
    return UserId(str(value))
