"""The first schema: cards, offers, subscriptions, command ids, changes, outbox, audit chain."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make all tables."""
    _domain()
    _answers()
    _air()
    op.create_table(
        "audit",
        sa.Column("seq", BIG, autoincrement=False, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )


def _domain() -> None:
    op.create_table(
        "cards",
        sa.Column("address", BIG, autoincrement=False, nullable=False),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("subscriber", sa.Text, nullable=False),
        sa.Column("key_version", sa.Integer, nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("rev", BIG, nullable=False),
        sa.Column("change_seq", BIG, nullable=False),
        sa.Column("assigned_at", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.CheckConstraint("address BETWEEN 0 AND 99999999999", name=op.f("ck_cards_address")),
        sa.CheckConstraint("state IN ('active', 'suspended')", name=op.f("ck_cards_state")),
        sa.CheckConstraint("revision BETWEEN 0 AND 4294967295", name=op.f("ck_cards_revision")),
        sa.CheckConstraint("key_version BETWEEN 0 AND 255", name=op.f("ck_cards_key_version")),
        sa.PrimaryKeyConstraint("address", name="pk_cards"),
    )
    op.create_index("ix_cards_operator_subscriber", "cards", ["operator", "subscriber"])
    op.create_table(
        "offers",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("offer", sa.Text, nullable=False),
        sa.Column("rev", BIG, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("names", sa.Text, nullable=False),
        sa.Column("heading", sa.Text),
        sa.Column("products", sa.Text, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_offers"),
        sa.UniqueConstraint("operator", "offer", name="uq_offers_operator_offer"),
    )
    op.create_table(
        "subscriptions",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("subscription", sa.Text, nullable=False),
        sa.Column("rev", BIG, nullable=False),
        sa.Column("address", BIG, nullable=False),
        sa.Column("offer_id", BIG, nullable=False),
        sa.Column("starts_at", BIG, nullable=False),
        sa.Column("ends_at", BIG),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.CheckConstraint("ends_at IS NULL OR ends_at >= starts_at", name=op.f("ck_subscriptions_window")),
        sa.ForeignKeyConstraint(["address"], ["cards.address"], name="fk_subscriptions_address"),
        sa.ForeignKeyConstraint(["offer_id"], ["offers.id"], name="fk_subscriptions_offer_id"),
        sa.PrimaryKeyConstraint("id", name="pk_subscriptions"),
        sa.UniqueConstraint("operator", "subscription", name="uq_subscriptions_operator_subscription"),
    )
    op.create_index("ix_subscriptions_address", "subscriptions", ["address"])
    op.create_index("ix_subscriptions_offer_id", "subscriptions", ["offer_id"])


def _answers() -> None:
    op.create_table(
        "commands",
        sa.Column("seq", BIG, autoincrement=False, nullable=False),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("again", sa.Integer, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_commands"),
        sa.UniqueConstraint("operator", "id", name="uq_commands_operator_id"),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", BIG, autoincrement=False, nullable=False),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("correlation", sa.LargeBinary),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_outbox"),
    )


def _air() -> None:
    op.create_table(
        "changes",
        sa.Column("seq", BIG, autoincrement=False, nullable=False),
        sa.Column("address", BIG, nullable=False),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("command_id", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("done_at", sa.Double),
        sa.ForeignKeyConstraint(["address"], ["cards.address"], name="fk_changes_address"),
        sa.PrimaryKeyConstraint("seq", name="pk_changes"),
    )
    op.create_index("ix_changes_address", "changes", ["address", "seq"])
    op.create_index("ix_changes_at", "changes", ["at"])
    still_open = sa.text("done_at IS NULL")
    op.create_index("ix_changes_open", "changes", ["seq"], sqlite_where=still_open, postgresql_where=still_open)
    op.create_table(
        "airs",
        sa.Column("change_seq", BIG, nullable=False),
        sa.Column("multiplex", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.ForeignKeyConstraint(["change_seq"], ["changes.seq"], name="fk_airs_change_seq"),
        sa.PrimaryKeyConstraint("change_seq", "multiplex", name="pk_airs"),
    )
