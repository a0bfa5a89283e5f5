"""Users, friendships, friend requests, refresh tokens and the change feed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _owner(table: str, name: str) -> tuple[sa.Column[str], sa.ForeignKeyConstraint]:
    return (
        sa.Column(name, sa.String(36), nullable=False),
        sa.ForeignKeyConstraint([name], ["users.id"], name=f"fk_{table}_{name}", ondelete="CASCADE"),
    )


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("handle", sa.String(30), nullable=False),
        sa.Column("display_name", sa.String(100), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("sharing_paused", sa.Boolean, nullable=False),
        sa.Column("sharing_paused_until_ms", sa.BigInteger),
        sa.Column("switch_sequence", sa.BigInteger, nullable=False),
        sa.Column("tokens_valid_from_ms", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("handle", name="uq_users_handle"),
    )
    op.create_index("ix_users_sharing_paused_until_ms", "users", ["sharing_paused_until_ms"])
    op.create_table(
        "friendships",
        *_owner("friendships", "user_id"),
        *_owner("friendships", "friend_id"),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
        sa.Column("sharing", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "friend_id", name="pk_friendships"),
    )
    op.create_index("ix_friendships_friend_id", "friendships", ["friend_id"])
    op.create_table(
        "friend_requests",
        sa.Column("id", sa.String(36), nullable=False),
        *_owner("friend_requests", "from_id"),
        *_owner("friend_requests", "to_id"),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_friend_requests"),
        sa.UniqueConstraint("from_id", "to_id", name="uq_friend_requests_from_id_to_id"),
    )
    for side in ("from_id", "to_id"):
        op.create_index(f"ix_friend_requests_{side}_created_ms_id", "friend_requests", [side, "created_ms", "id"])
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.String(64), nullable=False),
        *_owner("refresh_tokens", "user_id"),
        sa.Column("family", sa.String(36), nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
        sa.Column("rotated_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("token_hash", name="pk_refresh_tokens"),
    )
    op.create_index("ix_refresh_tokens_user_id", "refresh_tokens", ["user_id"])
    op.create_index("ix_refresh_tokens_family", "refresh_tokens", ["family"])
    op.create_table(
        "changes",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_changes"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    for table in ("changes", "refresh_tokens", "friend_requests", "friendships", "users"):
        op.drop_table(table)
