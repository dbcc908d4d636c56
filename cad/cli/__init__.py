"""The `cad` command: one module for each role; see `cad --help`."""
