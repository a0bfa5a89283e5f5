"""The tables behind people's rights over their data: erasures, exports, history settings and history grants.

Invariants: a row of ``erasures`` is work that is still to be done, and its end deletes it; it names its user without a
reference, because it outlives the account. A grant hangs on its side of the friendship, so it ends with it, however
that ends. An export and its parts end with the account. Instants are milliseconds since the Unix epoch.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
)

from social_graph.schema import metadata

__all__ = ["erasures", "export_parts", "exports", "history_grants", "history_settings", "metadata"]

erasures = Table(
    "erasures",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(36), nullable=False),
    # account, range or retention
    Column("kind", String(16), nullable=False),
    # The points to delete were recorded in [from_ms, to_ms).
    Column("from_ms", BigInteger, nullable=False),
    Column("to_ms", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    # Nobody works on it before this instant; whoever takes it moves it on.
    Column("next_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    # NULL until the fence stands.
    Column("fence_at_ms", BigInteger),
    Column("fence_until_ms", BigInteger),
    # A retention's: what is older than retention_s seconds goes, again and again until this instant.
    Column("retention_s", Integer),
    Column("repeat_until_ms", BigInteger),
    Index(None, "next_ms"),
    Index(None, "user_id"),
)

history_settings = Table(
    "history_settings",
    metadata,
    Column("user_id", String(36), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    # Seconds; 0: nothing is kept. Without a row: as long as the store keeps by default.
    Column("retention_s", Integer, nullable=False),
)

history_grants = Table(
    "history_grants",
    metadata,
    Column("owner_id", String(36), primary_key=True),
    Column("viewer_id", String(36), primary_key=True),
    Column("from_ms", BigInteger, nullable=False),
    # NULL: until withdrawn.
    Column("until_ms", BigInteger),
    ForeignKeyConstraint(
        ["owner_id", "viewer_id"],
        ["friendships.user_id", "friendships.friend_id"],
        name="fk_history_grants_owner_id",
        ondelete="CASCADE",
    ),
    Index(None, "viewer_id"),
)

exports = Table(
    "exports",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(36), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    # preparing or ready
    Column("state", String(16), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("next_ms", BigInteger, nullable=False),
    # Whose parts count: those of the newest attempt.
    Column("attempt", Integer, nullable=False),
    # Points written into the archive, all its files together, of how many.
    Column("done_count", Integer, nullable=False),
    Column("total_count", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Index(None, "user_id"),
    Index(None, "next_ms"),
)

export_parts = Table(
    "export_parts",
    metadata,
    Column("export_id", String(36), ForeignKey("exports.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
