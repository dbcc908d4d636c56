"""Offers may be a choice out of a list, and may be withdrawn; subscriptions keep what was chosen."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Widen offers and subscriptions."""
    op.add_column("offers", sa.Column("choose", sa.Integer))
    op.add_column("offers", sa.Column("withdrawn_at", sa.Double))
    op.add_column("subscriptions", sa.Column("choice", sa.Text))
    op.add_column("subscriptions", sa.Column("choice_changed_at", BIG))
