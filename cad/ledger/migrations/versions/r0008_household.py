"""A card has a parental level, and its PIN may be reset."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Widen cards by what their households want."""
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.add_column("cards", sa.Column("parental", sa.Integer, nullable=False, server_default="0"))
    op.add_column("cards", sa.Column("pin_reset", big, nullable=False, server_default="0"))
