"""Cards are found by the region that they stand in."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make an index of the cards that stand in a region."""
    somewhere = sa.text("region > 0")
    op.create_index(
        "ix_cards_operator_region",
        "cards",
        ["operator", "region", "address"],
        sqlite_where=somewhere,
        postgresql_where=somewhere,
    )
