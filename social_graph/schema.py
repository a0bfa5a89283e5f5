"""The tables. Every one is keyed by user id where it can be, so that a distributed PostgreSQL can shard it.

Invariants: a friendship is two rows, one per side, written and deleted together; a row of ``friend_requests``
is pending, and its answer deletes it; ``changes.sequence`` grows in the order in which transactions commit
(see :mod:`social_graph.changes`) and is never used twice. Instants are milliseconds since the Unix epoch.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _owner(name: str, *, primary_key: bool = False) -> Column[str]:
    reference = ForeignKey("users.id", ondelete="CASCADE")
    return Column(name, String(36), reference, primary_key=primary_key, nullable=False)


users = Table(
    "users",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("handle", String(30), nullable=False, unique=True),
    Column("display_name", String(100), nullable=False),
    Column("password_hash", String(200), nullable=False),
    Column("sharing_paused", Boolean, nullable=False),
    # NULL while paused: until resumed.
    Column("sharing_paused_until_ms", BigInteger),
    # The row of the feed that last set the switch.
    Column("switch_sequence", BigInteger, nullable=False),
    Column("tokens_valid_from_ms", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    # The rule towards friends to come.
    Column("default_sharing", String(16), nullable=False, server_default="exact"),
    # Weekly windows as JSON, by the wall clocks of `time_zone`; NULL: none, and UTC.
    Column("sharing_windows", Text),
    Column("time_zone", String(64)),
    Index(None, "sharing_paused_until_ms"),
)

friendships = Table(
    "friendships",
    metadata,
    _owner("user_id", primary_key=True),
    _owner("friend_id", primary_key=True),
    Column("since_ms", BigInteger, nullable=False),
    # How exactly `friend_id` may see `user_id`: the rule that stands, and the one that holds until an instant, if any.
    Column("sharing", String(16), nullable=False),
    Column("sharing_meanwhile", String(16)),
    Column("sharing_until_ms", BigInteger),
    # Whether `friend_id` may know that it is off.
    Column("sharing_openly", Boolean, nullable=False, server_default=false()),
    # Worked out from rules and circles, as JSON: how exactly `friend_id` lets `user_id` see them, and the other way
    # round. On both sides, so that a friend list is read from the rows of its owner. NULL: exactly, for good.
    Column("shows", Text),
    Column("sees", Text),
    # When `friend_id` last received a location of `user_id`, to the minute; NULL: never.
    Column("seen_ms", BigInteger),
    Index(None, "friend_id"),
)

circles = Table(
    "circles",
    metadata,
    _owner("user_id", primary_key=True),
    Column("id", String(36), primary_key=True),
    Column("name", String(100), nullable=False),
    # What its members see at most, until an instant or for good.
    Column("sharing", String(16), nullable=False),
    Column("sharing_until_ms", BigInteger),
    UniqueConstraint("user_id", "name"),
)

circle_members = Table(
    "circle_members",
    metadata,
    Column("user_id", String(36), primary_key=True),
    Column("circle_id", String(36), primary_key=True),
    Column("friend_id", String(36), primary_key=True),
    ForeignKeyConstraint(["user_id", "circle_id"], ["circles.user_id", "circles.id"], ondelete="CASCADE"),
    # Who ceases to be a friend leaves the circles.
    ForeignKeyConstraint(
        ["user_id", "friend_id"],
        ["friendships.user_id", "friendships.friend_id"],
        name="fk_circle_members_friend_id",
        ondelete="CASCADE",
    ),
    Index(None, "user_id", "friend_id"),
)

friend_requests = Table(
    "friend_requests",
    metadata,
    Column("id", String(36), primary_key=True),
    _owner("from_id"),
    _owner("to_id"),
    Column("created_ms", BigInteger, nullable=False),
    UniqueConstraint("from_id", "to_id"),
    Index(None, "from_id", "created_ms", "id"),
    Index(None, "to_id", "created_ms", "id"),
    Index(None, "created_ms"),
)

# How many requests a user has sent on one day (days since the Unix epoch, UTC); one row per user.
request_counts = Table(
    "request_counts",
    metadata,
    _owner("user_id", primary_key=True),
    Column("day", Integer, nullable=False),
    Column("sent", Integer, nullable=False),
)

blocks = Table(
    "blocks",
    metadata,
    _owner("user_id", primary_key=True),
    # Not a reference: a block of an id that nobody has must look like any other.
    Column("blocked_id", String(36), primary_key=True),
    Column("since_ms", BigInteger, nullable=False),
    Index(None, "blocked_id"),
)

invites = Table(
    "invites",
    metadata,
    Column("id", String(36), primary_key=True),
    _owner("user_id"),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("uses_left", Integer, nullable=False),
    Column("max_uses", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Index(None, "user_id", "created_ms", "id"),
    Index(None, "expires_ms"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    _owner("user_id", primary_key=True),
    # Of the key; what it hides can be read only by whoever knows the key itself.
    Column("key_hash", String(64), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    # NULL while the request is being worked on.
    Column("status", Integer),
    Column("answer", LargeBinary),
    Column("created_ms", BigInteger, nullable=False),
    Index(None, "created_ms"),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    _owner("user_id"),
    Column("family", String(36), nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    # NULL while the token is good; it stays after its use, so that a second use is noticed.
    Column("rotated_ms", BigInteger),
    Index(None, "user_id"),
    Index(None, "family"),
    Index(None, "expires_ms"),
)

external_identities = Table(
    "external_identities",
    metadata,
    Column("issuer", String(255), primary_key=True),
    Column("subject", String(255), primary_key=True),
    _owner("user_id"),
    Index(None, "user_id"),
)

changes = Table(
    "changes",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("payload", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    # Without it SQLite would give the numbers of deleted rows a second time.
    sqlite_autoincrement=True,
)

feed_head = Table(
    "feed_head",
    metadata,
    # There is one row.
    Column("id", Integer, primary_key=True, autoincrement=False),
    # The newest row that the feed ever had, and the newest that is no longer kept; 0: none.
    Column("sequence", BigInteger, nullable=False),
    Column("pruned_to", BigInteger, nullable=False),
)
