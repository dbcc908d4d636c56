"""The headend for technicians in the field: who they are, what they may ask, and a record of each act (C12, I10)."""
