"""`cad offer`: what operators sell."""

import sys
from pathlib import Path
from typing import Any, Final

import click

from cad.cli.shell.exit_codes import ExitCode
from cad.cli.shell.options import daemon_options

LOADING_TIMEOUT_S: Final = 3600.0


@click.group("offer")
def group() -> None:
    """List offers, or load a whole catalogue."""


@group.command("list")
@click.option("--operator", help="Only this operator's.")
@click.option("--language", help="Show names in this language, such as fi, where they have it.  [default: any]")
@daemon_options
def list_command(
    operator: str | None,
    language: str | None,
    config: Path,
    socket_path: Path | None,
    as_json: bool,
) -> None:
    """Show what is sold, under its headings: kinds, products, terms, and how many subscriptions run."""
    from cad.cli.offers.view import listing
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, show_json

    parameters = {} if operator is None else {"operator": operator}
    with daemon(config, socket_path) as client:
        found = client.get("/v1/offers", **parameters)
    if as_json:
        show_json(found)
    else:
        console().print(listing(found, language))


@group.command("load")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@daemon_options
def load_command(
    file: Path, dry_run: bool, yes: bool, config: Path, socket_path: Path | None, as_json: bool
) -> ExitCode:
    """Make an operator's offers what FILE says: TOML, or JSON where its name ends in .json.

    Shows what is new, changed, withdrawn (what FILE does not have) and how many cards are sent new content, and
    asks before it does it. Nobody gets a right by it who has not ordered. Loading the same file again does nothing.

    Exit codes: 0 done, or nothing to do; 4 the headend would refuse something, nothing was done; 8 the operator is
    unknown; 11 FILE cannot be used; 12 the offers changed in between, load again; 130 the answer was no.
    """
    from cad.cli.offers.file import read
    from cad.cli.offers.view import comparison
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, show_json

    asks = not (yes or dry_run)
    if asks and (as_json or not sys.stdin.isatty()):
        raise click.UsageError("there is nobody to ask: say --yes, or --dry-run")
    wanted = {"catalogue": read(file)}
    with daemon(config, socket_path) as client:
        found = client.post("/v1/offers/compare", wanted, LOADING_TIMEOUT_S)
        if not as_json:
            console().print(comparison(found))
        if not (dry_run or _refused(found) or _is_done(found)):
            if asks:
                click.confirm(f"Change the offers of {found['operator']}?", abort=True)
            found = client.post("/v1/offers/load", {**wanted, "seen": found["seen"]}, LOADING_TIMEOUT_S)
            if not as_json:
                console().print(comparison(found))
    if as_json:
        show_json(found)
    if not _refused(found):
        return ExitCode.OK
    return ExitCode.FAILED if found["applied"] else ExitCode.CHECK_FAILED


def _refused(found: dict[str, Any]) -> bool:
    return any(one["code"] != "ok" for one in found["offers"])


def _is_done(found: dict[str, Any]) -> bool:
    return all(one["change"] == "unchanged" for one in found["offers"])
