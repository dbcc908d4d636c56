"""Reports (C11): how many cards had what on a day, and what was activated and deactivated in a period."""
