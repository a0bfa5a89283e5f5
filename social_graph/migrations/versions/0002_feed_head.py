"""The head of the change feed: one row that numbers the changes in the order of their commits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feed_head",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("pruned_to", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feed_head"),
    )
    op.execute("INSERT INTO feed_head (id, sequence, pruned_to) SELECT 1, coalesce(max(sequence), 0), 0 FROM changes")


def downgrade() -> None:
    op.drop_table("feed_head")
