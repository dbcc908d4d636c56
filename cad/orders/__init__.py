"""Orders in, answers out: the broker, the intake before the ledger, the outbox behind it."""
