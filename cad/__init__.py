"""The edge: the daemon and the `cad` command."""
