"""The ledger's tables: the file they lie in, and the rows between them and the working set."""
