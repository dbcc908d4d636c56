"""`cad status`."""

from pathlib import Path
from typing import Any

import click

from cad.cli.shell.options import daemon_options


@click.command("status")
@daemon_options
def command(config: Path, socket_path: Path | None, as_json: bool) -> int:
    """Show how the running daemon is, what is wrong and what to do about it.

    Exit code 4 when something does not hold.
    """
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import show_json

    with daemon(config, socket_path) as client:
        found = client.get("/v1/status")
    if as_json:
        show_json(found)
    else:
        _show(found)
    return 0 if all(one["ok"] for one in found["health"]["conditions"]) else 4


def _show(found: dict[str, Any]) -> None:
    from cad.cli.shell.output import console, document, table

    out = console()
    health = found["health"]
    out.print(document({name: value for name, value in found.items() if name != "health"}))
    conditions = health["conditions"]
    rows = [
        [
            "ok" if one["ok"] else {"warning": "LOOK"}.get(one["level"], "FAIL"),
            f"{one['name']} {one['subject']}".strip(),
            one["since"],
            one["text"],
        ]
        for one in conditions
    ]
    out.print(table(["", "condition", "since", "what"], rows, "health"))
    for one in conditions:
        if one["advice"]:
            out.print(f"{one['name']} {one['subject']}".strip() + f": {one['advice']}", markup=False, soft_wrap=True)
    verdict = "all well" if all(one["ok"] for one in conditions) else "running" if health["ready"] else "NOT READY"
    out.print(verdict, markup=False)
