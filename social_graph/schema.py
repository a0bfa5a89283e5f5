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
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
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
    Index(None, "sharing_paused_until_ms"),
)

friendships = Table(
    "friendships",
    metadata,
    _owner("user_id", primary_key=True),
    _owner("friend_id", primary_key=True),
    Column("since_ms", BigInteger, nullable=False),
    # How exactly `friend_id` may see `user_id`.
    Column("sharing", String(16), nullable=False),
    Index(None, "friend_id"),
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
