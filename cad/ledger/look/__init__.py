"""What others read of the ledger: single answers, whole copies, the history of the cards."""
