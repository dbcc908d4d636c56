"""Offers may be events, which have a window, a service and a number of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Widen offers; make the table of the keys that events have had."""
    op.add_column("offers", sa.Column("service", sa.Text))
    op.add_column("offers", sa.Column("starts_at", BIG))
    op.add_column("offers", sa.Column("ends_at", BIG))
    op.add_column("offers", sa.Column("product_id", sa.Integer))
    ending = sa.text("ends_at IS NOT NULL")
    op.create_index("ix_offers_ends_at", "offers", ["ends_at"], sqlite_where=ending, postgresql_where=ending)
    op.create_table(
        "event_keys",
        sa.Column("product_id", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("offer_id", BIG, sa.ForeignKey("offers.id", name="fk_event_keys_offer_id"), nullable=False),
        sa.Column("until", BIG, nullable=False),
        sa.PrimaryKeyConstraint("product_id", "epoch", name="pk_event_keys"),
    )
    op.create_index("ix_event_keys_until", "event_keys", ["until"])
