"""The tables. Rows of cards, offers and subscriptions are never deleted: they are the history that can be looked up.

`rev` is the portal's number for a resource (D10); `revision` is the version that goes on the air (D2).
Times are Unix seconds: whole where the portal sets them, fractions where the ledger does.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

BIG: Final = BigInteger().with_variant(Integer, "sqlite")
"""64 bits everywhere; SQLite's own row number where it is a primary key."""

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

meta: Final = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

cards: Final = Table(
    "cards",
    metadata,
    Column("address", BIG, primary_key=True, autoincrement=False),
    Column("operator", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("subscriber", Text, nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("revision", BIG, nullable=False),
    Column("rev", BIG, nullable=False),
    Column("change_seq", BIG, nullable=False),
    Column("assigned_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("blocked", Integer, nullable=False, server_default="0"),
    Column("open_until", BIG),
    Column("replaced_by", BIG),
    Column("receiver", Text),
    Column("parental", Integer, nullable=False, server_default="0"),
    Column("pin_reset", BIG, nullable=False, server_default="0"),
    Column("region", Integer, nullable=False, server_default="0"),
    CheckConstraint("address BETWEEN 0 AND 99999999999", name="address"),
    CheckConstraint(
        "state IN ('stock', 'assigned', 'active', 'suspended', 'lost', 'stolen', 'defective', 'replaced', 'returned',"
        " 'blacklisted')",
        name="state",
    ),
    CheckConstraint("revision BETWEEN 0 AND 4294967295", name="revision"),
    CheckConstraint("key_version BETWEEN 0 AND 255", name="key_version"),
)
"""`state` as in `cad.ledger.decide.lifecycle`. `blocked` 1: for default, which outlives report and replacement.

`open_until`: reopened on a promise to pay, and blocked again from then on (S12). `receiver`: number of the one receiver
that the card serves, as spelled by `protocol.receiver_number`. `parental`: age from which on a rating needs the PIN;
`pin_reset`: the revision under which the newest reset of the PIN was ordered. `region`: number of the region that it
stands in, 0 for none.
"""
Index("ix_cards_operator_subscriber", cards.c.operator, cards.c.subscriber)
Index(
    "ix_cards_open_until",
    cards.c.open_until,
    sqlite_where=cards.c.open_until.is_not(None),
    postgresql_where=cards.c.open_until.is_not(None),
)
Index(
    "ix_cards_operator_region",
    cards.c.operator,
    cards.c.region,
    cards.c.address,
    sqlite_where=cards.c.region > 0,
    postgresql_where=cards.c.region > 0,
)

offers: Final = Table(
    "offers",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=False),
    Column("operator", Text, nullable=False),
    Column("offer", Text, nullable=False),
    Column("rev", BIG, nullable=False),
    Column("kind", Text, nullable=False),
    Column("names", Text, nullable=False),
    Column("heading", Text),
    Column("products", Text, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("terms", Text),
    Column("choose", Integer),
    Column("withdrawn_at", Double),
    Column("service", Text),
    Column("starts_at", BIG),
    Column("ends_at", BIG),
    Column("product_id", Integer),
    UniqueConstraint("operator", "offer"),
)
"""`choose`: how many of a mix's products. `withdrawn_at`: not sold any more since then. `service` to `product_id`: only
of events; the number may change with the window, and stays when the event is over.
"""
Index(
    "ix_offers_ends_at",
    offers.c.ends_at,
    sqlite_where=offers.c.ends_at.is_not(None),
    postgresql_where=offers.c.ends_at.is_not(None),
)

event_keys: Final = Table(
    "event_keys",
    metadata,
    Column("product_id", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("offer_id", BIG, ForeignKey("offers.id"), nullable=False),
    Column("until", BIG, nullable=False),
    PrimaryKeyConstraint("product_id", "epoch"),
)
"""Which event has or had the key of a number in an epoch: never two of them. `until`: the end of the epoch."""
Index("ix_event_keys_until", event_keys.c.until)

subscriptions: Final = Table(
    "subscriptions",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=False),
    Column("operator", Text, nullable=False),
    Column("subscription", Text, nullable=False),
    Column("rev", BIG, nullable=False),
    Column("address", BIG, ForeignKey("cards.address"), nullable=False, index=True),
    Column("offer_id", BIG, ForeignKey("offers.id"), nullable=False, index=True),
    Column("starts_at", BIG, nullable=False),
    Column("ends_at", BIG),
    Column("changed_at", Double, nullable=False),
    Column("minimum_until", BIG),
    Column("protected", Integer, nullable=False, server_default="0"),
    Column("phase", Integer, nullable=False, server_default="0"),
    Column("due_at", BIG),
    Column("choice", Text),
    Column("choice_changed_at", BIG),
    UniqueConstraint("operator", "subscription"),
    CheckConstraint("ends_at IS NULL OR ends_at >= starts_at", name="window"),
)
"""`minimum_until`, `protected`: the terms at the time of the order. `phase` and `due_at`: which facts for the invoice
have been told, and when the next is due (`cad.ledger.facts`). `choice`: the slugs chosen out of a mix, in JSON;
`choice_changed_at`: when something was last given up for something else.
"""
Index(
    "ix_subscriptions_due_at",
    subscriptions.c.due_at,
    sqlite_where=subscriptions.c.due_at.is_not(None),
    postgresql_where=subscriptions.c.due_at.is_not(None),
)

commands: Final = Table(
    "commands",
    metadata,
    Column("seq", BIG, primary_key=True, autoincrement=False),
    Column("operator", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("answer", Text, nullable=False),
    Column("again", Integer, nullable=False),
    Column("at", Double, nullable=False),
    UniqueConstraint("operator", "id"),
)
"""Answered command ids. `again` 1: the answer may change, so a repeat is decided anew."""

changes: Final = Table(
    "changes",
    metadata,
    Column("seq", BIG, primary_key=True, autoincrement=False),
    Column("address", BIG, ForeignKey("cards.address"), nullable=False),
    Column("operator", Text, nullable=False),
    Column("revision", BIG, nullable=False),
    Column("command_id", Text, nullable=False),
    Column("at", Double, nullable=False, index=True),
    Column("done_at", Double),
)
"""Each change of a card's content; `done_at` when it had been sent on every multiplex of its network."""
Index(
    "ix_changes_open",
    changes.c.seq,
    sqlite_where=changes.c.done_at.is_(None),
    postgresql_where=changes.c.done_at.is_(None),
)
Index("ix_changes_address", changes.c.address, changes.c.seq)

airs: Final = Table(
    "airs",
    metadata,
    Column("change_seq", BIG, ForeignKey("changes.seq"), nullable=False),
    Column("multiplex", Text, nullable=False),
    Column("at", Double, nullable=False),
    PrimaryKeyConstraint("change_seq", "multiplex"),
)
"""When a change was first sent on a multiplex."""

history: Final = Table(
    "history",
    metadata,
    Column("operator", Text, nullable=False),
    Column("address", BIG, nullable=False),
    Column("seq", BIG, nullable=False),
    Column("at", Double, nullable=False),
    Column("command_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("opens", Text, nullable=False),
    PrimaryKeyConstraint("operator", "address", "seq"),
)
"""What each card could open since when (`cad.ledger.look.history`); `seq` is that of the change."""

rollouts: Final = Table(
    "rollouts",
    metadata,
    Column("offer_id", BIG, ForeignKey("offers.id"), nullable=False),
    Column("since_seq", BIG, nullable=False),
    Column("operator", Text, nullable=False),
    Column("command_id", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("listed", Text, nullable=False),
    Column("slugs", Text),
    Column("starts_at", BIG),
    Column("ends_at", BIG),
    Column("after", BIG, nullable=False),
    Column("cards_left", BIG, nullable=False),
    Column("on_air_by", BIG),
    Column("visible_by", BIG),
    PrimaryKeyConstraint("offer_id", "since_seq"),
)
"""Offers that changed, of which cards with a newest change below `since_seq` say what stood before
(`cad.ledger.records.Rollout`); a row goes when the last of them has followed.
"""

outbox: Final = Table(
    "outbox",
    metadata,
    Column("seq", BIG, primary_key=True, autoincrement=False),
    Column("operator", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("correlation", LargeBinary),
    Column("at", Double, nullable=False),
    Column("event_id", Text, nullable=False),
)
"""What is still to be published; a row goes when the broker has it."""

audit: Final = Table(
    "audit",
    metadata,
    Column("seq", BIG, primary_key=True, autoincrement=False),
    Column("record", Text, nullable=False),
    Column("mac", LargeBinary, nullable=False),
)
"""The audit chain: `mac` = HMAC-SHA-256(audit key, mac before ‖ record in UTF-8)."""

stock_ranges: Final = Table(
    "stock_ranges",
    metadata,
    Column("operator", Text, nullable=False),
    Column("batch", Text, nullable=False),
    Column("first", BIG, nullable=False, unique=True),
    Column("last", BIG, nullable=False),
    Column("at", Double, nullable=False),
    PrimaryKeyConstraint("operator", "batch"),
    CheckConstraint("first BETWEEN 0 AND last", name="order"),
    CheckConstraint("last <= 99999999999", name="last"),
)
"""Card numbers reserved for a batch of cards to be made, both ends included. Never given to another batch."""

stock_cards: Final = Table(
    "stock_cards",
    metadata,
    Column("address", BIG, primary_key=True, autoincrement=False),
    Column("operator", Text, nullable=False),
    Column("batch", Text, nullable=False),
    Column("serial", Text, nullable=False, unique=True),
    Column("claimed_at", Double, nullable=False),
    Column("key_version", Integer),
    Column("check_values", Text),
    Column("made_at", Double),
    CheckConstraint("(made_at IS NULL) = (check_values IS NULL)", name="made"),
)
"""Which chip (serial number in hexadecimal) has which address; in stock from `made_at` until the card is assigned."""

messages: Final = Table(
    "messages",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=False),
    Column("operator", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("rev", BIG, nullable=False),
    Column("number", BIG, nullable=False, unique=True),
    Column("content", LargeBinary, nullable=False),
    Column("recipients", Text, nullable=False),
    Column("starts_at", BIG, nullable=False),
    Column("ends_at", BIG, nullable=False),
    Column("repeat_s", Integer, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("withdrawn", Integer, nullable=False),
    Column("on_air_at", Double),
    UniqueConstraint("operator", "message"),
    CheckConstraint("number BETWEEN 1 AND 4294967295", name="number"),
    CheckConstraint("ends_at > starts_at", name="window"),
)
"""Messages and fingerprints. `number` is the one on the air, by which cards take each once; it never comes twice.

`on_air_at`: when it had been sent once to all that it was for, on every multiplex; none before, and after each change.
"""
Index("ix_messages_ends_at", messages.c.ends_at)

facts: Final = Table(
    "facts",
    metadata,
    Column("operator", Text, nullable=False),
    Column("number", BIG, nullable=False),
    Column("address", BIG, nullable=False),
    Column("fact", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("made_at", Double, nullable=False),
    PrimaryKeyConstraint("operator", "number"),
)
"""Facts for the invoice (S10), numbered without gaps for each operator; what was published, to publish it again."""
Index("ix_facts_operator_made_at", facts.c.operator, facts.c.made_at)
