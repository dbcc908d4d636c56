"""Cards in stock: numbers reserved for a batch, and which chip got which number."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "stock_ranges",
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("batch", sa.Text, nullable=False),
        sa.Column("first", BIG, nullable=False),
        sa.Column("last", BIG, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("operator", "batch", name="pk_stock_ranges"),
        sa.UniqueConstraint("first", name="uq_stock_ranges_first"),
        sa.CheckConstraint("first BETWEEN 0 AND last", name=op.f("ck_stock_ranges_order")),
        sa.CheckConstraint("last <= 99999999999", name=op.f("ck_stock_ranges_last")),
    )
    op.create_table(
        "stock_cards",
        sa.Column("address", BIG, autoincrement=False, nullable=False),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("batch", sa.Text, nullable=False),
        sa.Column("serial", sa.Text, nullable=False),
        sa.Column("claimed_at", sa.Double, nullable=False),
        sa.Column("key_version", sa.Integer),
        sa.Column("check_values", sa.Text),
        sa.Column("made_at", sa.Double),
        sa.PrimaryKeyConstraint("address", name="pk_stock_cards"),
        sa.UniqueConstraint("serial", name="uq_stock_cards_serial"),
        sa.CheckConstraint("(made_at IS NULL) = (check_values IS NULL)", name=op.f("ck_stock_cards_made")),
    )
