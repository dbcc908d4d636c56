"""Options that many commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

DEFAULT_CONFIG: Final = Path("/etc/cad/cad.toml")
DEFAULT_SOCKET: Final = Path("/run/cad/cad.sock")

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

config_option: Decorator = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_CONFIG,
    show_default=True,
    envvar="CAD_CONFIG",
    show_envvar=True,
    help="The settings file.",
)

socket_option: Decorator = click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    envvar="CAD_SOCKET",
    show_envvar=True,
    help=f"The daemon's control socket.  [default: node.socket of the settings, else {DEFAULT_SOCKET}]",
)

operator_option: Decorator = click.option("--operator", help="Only this operator's; all of them unless it is said.")


def operator_parameter(operator: str | None) -> dict[str, str]:
    """Return how a question to the daemon names the operator that it keeps to."""
    return {} if operator is None else {"operator": operator}


def daemon_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what a command needs that asks the daemon: --config, --socket and --json."""
    return config_option(socket_option(json_option(command)))
