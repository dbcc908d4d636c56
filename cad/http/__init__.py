"""The daemon's HTTP side: health and metrics for everybody, control on the Unix socket only (D13)."""
