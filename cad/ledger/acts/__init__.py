"""What is done to the ledger without a command of a portal's asking for it."""
