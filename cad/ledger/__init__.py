"""The only truth: operators' offers, cards, subscriptions, answered commands, outbox and audit chain (D12)."""
