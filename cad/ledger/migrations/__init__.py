"""Steps from each schema of the ledger to the next; applied when the ledger is opened."""
