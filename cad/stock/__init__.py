"""Making cards: numbers from the ledger, keys from the key store, chips in readers."""
