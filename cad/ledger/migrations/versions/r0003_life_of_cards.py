"""Cards live longer than active and suspended; subscriptions have terms; facts for the invoice are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
STATES = (
    "state IN ('stock', 'assigned', 'active', 'suspended', 'lost', 'stolen', 'defective', 'replaced', 'returned',"
    " 'blacklisted')"
)


def upgrade() -> None:
    """Widen cards, offers and subscriptions; make the table of facts."""
    with op.batch_alter_table("cards") as cards:
        cards.drop_constraint("state", type_="check")
        cards.create_check_constraint("state", STATES)
        cards.add_column(sa.Column("blocked", sa.Integer, nullable=False, server_default="0"))
        cards.add_column(sa.Column("open_until", BIG))
        cards.add_column(sa.Column("replaced_by", BIG))
    op.execute("UPDATE cards SET blocked = 1 WHERE state = 'suspended'")
    due = sa.text("open_until IS NOT NULL")
    op.create_index("ix_cards_open_until", "cards", ["open_until"], sqlite_where=due, postgresql_where=due)
    op.add_column("offers", sa.Column("terms", sa.Text))
    op.add_column("subscriptions", sa.Column("minimum_until", BIG))
    op.add_column("subscriptions", sa.Column("protected", sa.Integer, nullable=False, server_default="0"))
    op.add_column("subscriptions", sa.Column("phase", sa.Integer, nullable=False, server_default="0"))
    op.add_column("subscriptions", sa.Column("due_at", BIG))
    # Nothing was told of these yet: their facts are due.
    op.execute("UPDATE subscriptions SET due_at = starts_at WHERE ends_at IS NULL OR ends_at > starts_at")
    due = sa.text("due_at IS NOT NULL")
    op.create_index("ix_subscriptions_due_at", "subscriptions", ["due_at"], sqlite_where=due, postgresql_where=due)
    op.create_table(
        "facts",
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("address", BIG, nullable=False),
        sa.Column("fact", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("made_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("operator", "number", name="pk_facts"),
    )
    op.create_index("ix_facts_operator_made_at", "facts", ["operator", "made_at"])
