"""A card may serve one receiver alone."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Widen cards by their receiver."""
    op.add_column("cards", sa.Column("receiver", sa.Text))
