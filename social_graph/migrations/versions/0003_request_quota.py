"""Friend requests that expire, and how many a user has sent today."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_friend_requests_created_ms", "friend_requests", ["created_ms"])
    op.create_table(
        "request_counts",
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_request_counts_user_id", ondelete="CASCADE"),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("sent", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_request_counts"),
    )


def downgrade() -> None:
    op.drop_table("request_counts")
    op.drop_index("ix_friend_requests_created_ms", "friend_requests")
