"""Sharing rules: per friend, per circle, weekly windows, and the default for new friends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TIER = sa.String(16)
_ON_FRIENDSHIPS = ("sharing_meanwhile", "sharing_until_ms", "sharing_openly", "shows", "sees", "seen_ms")
_ON_USERS = ("default_sharing", "sharing_windows", "time_zone")


def upgrade() -> None:
    for column in (
        sa.Column("sharing_meanwhile", _TIER),
        sa.Column("sharing_until_ms", sa.BigInteger),
        sa.Column("sharing_openly", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("shows", sa.Text),
        sa.Column("sees", sa.Text),
        sa.Column("seen_ms", sa.BigInteger),
    ):
        op.add_column("friendships", column)
    for column in (
        sa.Column("default_sharing", _TIER, nullable=False, server_default="exact"),
        sa.Column("sharing_windows", sa.Text),
        sa.Column("time_zone", sa.String(64)),
    ):
        op.add_column("users", column)
    op.create_table(
        "circles",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("sharing", _TIER, nullable=False),
        sa.Column("sharing_until_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_circles"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_circles_user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("user_id", "name", name="uq_circles_user_id_name"),
    )
    op.create_table(
        "circle_members",
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("circle_id", sa.String(36), nullable=False),
        sa.Column("friend_id", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "circle_id", "friend_id", name="pk_circle_members"),
        sa.ForeignKeyConstraint(
            ["user_id", "circle_id"],
            ["circles.user_id", "circles.id"],
            name="fk_circle_members_user_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "friend_id"],
            ["friendships.user_id", "friendships.friend_id"],
            name="fk_circle_members_friend_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_circle_members_user_id_friend_id", "circle_members", ["user_id", "friend_id"])


def downgrade() -> None:
    op.drop_table("circle_members")
    op.drop_table("circles")
    for table, names in (("users", _ON_USERS), ("friendships", _ON_FRIENDSHIPS)):
        with op.batch_alter_table(table) as batch:
            for name in names:
                batch.drop_column(name)
