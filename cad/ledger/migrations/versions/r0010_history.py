"""What each card could open since when."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table; it is filled by the store when it opens the ledger."""
    op.create_table(
        "history",
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("address", BIG, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("command_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("opens", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("operator", "address", "seq", name="pk_history"),
    )
