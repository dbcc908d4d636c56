"""Offers that have changed, and that not all cards with them have followed yet."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table; it begins empty."""
    op.create_table(
        "rollouts",
        sa.Column("offer_id", BIG, sa.ForeignKey("offers.id", name="fk_rollouts_offer_id"), nullable=False),
        sa.Column("since_seq", BIG, nullable=False),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("command_id", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("listed", sa.Text, nullable=False),
        sa.Column("slugs", sa.Text),
        sa.Column("starts_at", BIG),
        sa.Column("ends_at", BIG),
        sa.Column("after", BIG, nullable=False),
        sa.Column("cards_left", BIG, nullable=False),
        sa.Column("on_air_by", BIG),
        sa.Column("visible_by", BIG),
        sa.PrimaryKeyConstraint("offer_id", "since_seq", name="pk_rollouts"),
    )
