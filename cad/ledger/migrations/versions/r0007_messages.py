"""Messages and fingerprints, by the number that cards take each once."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table of messages."""
    op.create_table(
        "messages",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("rev", BIG, nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("recipients", sa.Text, nullable=False),
        sa.Column("starts_at", BIG, nullable=False),
        sa.Column("ends_at", BIG, nullable=False),
        sa.Column("repeat_s", sa.Integer, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("withdrawn", sa.Integer, nullable=False),
        sa.UniqueConstraint("number", name="uq_messages_number"),
        sa.UniqueConstraint("operator", "message", name="uq_messages_operator_message"),
        sa.CheckConstraint("number BETWEEN 1 AND 4294967295", name="number"),
        sa.CheckConstraint("ends_at > starts_at", name="window"),
    )
    op.create_index("ix_messages_ends_at", "messages", ["ends_at"])
