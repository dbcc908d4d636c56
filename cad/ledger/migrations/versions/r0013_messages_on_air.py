"""It is known of a message when it had been sent to all that it was for."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Widen messages by that moment."""
    op.add_column("messages", sa.Column("on_air_at", sa.Double))
