"""A card may stand in a region."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Widen cards by their region."""
    op.add_column("cards", sa.Column("region", sa.Integer, nullable=False, server_default="0"))
