"""Erasures, exports, history settings and history grants; expired refresh tokens are found by their end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _user(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=f"fk_{table}_user_id", ondelete="CASCADE")


def upgrade() -> None:
    op.create_index("ix_refresh_tokens_expires_ms", "refresh_tokens", ["expires_ms"])
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("from_ms", sa.BigInteger, nullable=False),
        sa.Column("to_ms", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("next_ms", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("fence_at_ms", sa.BigInteger),
        sa.Column("fence_until_ms", sa.BigInteger),
        sa.Column("retention_s", sa.Integer),
        sa.Column("repeat_until_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_erasures"),
    )
    op.create_index("ix_erasures_next_ms", "erasures", ["next_ms"])
    op.create_index("ix_erasures_user_id", "erasures", ["user_id"])
    op.create_table(
        "history_settings",
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("retention_s", sa.Integer, nullable=False),
        _user("history_settings"),
        sa.PrimaryKeyConstraint("user_id", name="pk_history_settings"),
    )
    op.create_table(
        "history_grants",
        sa.Column("owner_id", sa.String(36), nullable=False),
        sa.Column("viewer_id", sa.String(36), nullable=False),
        sa.Column("from_ms", sa.BigInteger, nullable=False),
        sa.Column("until_ms", sa.BigInteger),
        sa.ForeignKeyConstraint(
            ["owner_id", "viewer_id"],
            ["friendships.user_id", "friendships.friend_id"],
            name="fk_history_grants_owner_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("owner_id", "viewer_id", name="pk_history_grants"),
    )
    op.create_index("ix_history_grants_viewer_id", "history_grants", ["viewer_id"])
    op.create_table(
        "exports",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
        sa.Column("next_ms", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("done_count", sa.Integer, nullable=False),
        sa.Column("total_count", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        _user("exports"),
        sa.PrimaryKeyConstraint("id", name="pk_exports"),
    )
    op.create_index("ix_exports_user_id", "exports", ["user_id"])
    op.create_index("ix_exports_next_ms", "exports", ["next_ms"])
    op.create_table(
        "export_parts",
        sa.Column("export_id", sa.String(36), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name="fk_export_parts_export_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("export_id", "attempt", "part", name="pk_export_parts"),
    )


def downgrade() -> None:
    for table in ("export_parts", "exports", "history_grants", "history_settings", "erasures"):
        op.drop_table(table)
    op.drop_index("ix_refresh_tokens_expires_ms", "refresh_tokens")
