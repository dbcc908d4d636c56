"""The `cad` command: finds the subcommand, runs it, turns errors into a message and an exit code (only here)."""

import importlib
import os
import sys
import traceback
from typing import Any, Final, NamedTuple

import click

from cad.cli.shell.exit_codes import ExitCode, code_of

EXTRAS: Final = {"smartcard": "pcsc", "iotcore": "demo", "pkcs11": "pkcs11", "reportlab": "labels"}


class Entry(NamedTuple):
    """Where a subcommand lies, and its line in `cad --help`. `attached` are commands of other modules in a group."""

    target: str
    help: str
    attached: tuple[str, ...] = ()


COMMANDS: Final[dict[str, Entry]] = {
    "audit": Entry("cad.cli.audit:group", "Verify or export the record of every command."),
    "backup": Entry("cad.cli.backup:command", "Write the ledger to a file while the daemon goes on."),
    "card": Entry(
        "cad.cli.cards.card:group",
        "Read a card in a reader, or make cards.",
        attached=(
            *(f"cad.cli.cards.make:{name}_command" for name in ("provision", "batch", "stock", "labels")),
            "cad.cli.cards.verify:command",
            "cad.cli.cards.verify:refresh_command",
            "cad.cli.cards.explain:command",
            "cad.cli.cards.pin:group",
            "cad.cli.cards.gui:command",
        ),
    ),
    "carousel": Entry(
        "cad.cli.air.carousel:group",
        "See or simulate what is sent when.",
        attached=("cad.cli.air.carousel_top:command",),
    ),
    "check": Entry("cad.cli.check:command", "Check the settings; with --deep all that the daemon needs."),
    "clock": Entry("cad.cli.clock:command", "Show the daemon's time, or have it believe the machine's clock."),
    "demo": Entry("cad.cli.demo:command", "Show the main job on embedded defaults."),
    "emm": Entry("cad.cli.air.emm:group", "Decode EMMs."),
    "explain": Entry("cad.cli.explain:command", "Say why a card can see a channel or not."),
    "field": Entry("cad.cli.cards.field:group", "Work on cards without network."),
    "keys": Entry("cad.cli.keys:group", "Make the master key, or show its fingerprint."),
    "offer": Entry("cad.cli.offers.offer:group", "List offers, or load a whole catalogue."),
    "probe": Entry("cad.cli.air.probe:command", "Listen to a transport stream: what do receivers really get?"),
    "message": Entry("cad.cli.air.message:group", "See the messages and fingerprints that are on the air."),
    "monitor-camd": Entry(
        "cad.cli.air.monitor_camd:command", "Let a monitoring receiver watch with a card in a reader."
    ),
    "multiplex": Entry("cad.cli.air.multiplex:group", "Choose the multiplexer that carries a stream."),
    "reader": Entry("cad.cli.cards.reader:group", "List or watch card readers."),
    "report": Entry("cad.cli.report:group", "Count active cards, list what was activated, or compare with a portal."),
    "restore": Entry("cad.cli.backup:restore_command", "Put a backup in place of the ledger."),
    "serve": Entry("cad.cli.serve:command", "Run the daemon."),
    "status": Entry("cad.cli.status:command", "Show how the running daemon is."),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is used, so that the rest works quickly and without it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (entry := COMMANDS.get(cmd_name)) is None:
            return None
        found = _load(entry.target)
        if isinstance(found, click.Group):
            for target in entry.attached:
                found.add_command(_load(target))
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in sorted(COMMANDS.items())])


def _load(target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    assert isinstance(found, click.Command), target
    return found


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="cad")
def cli() -> None:
    """Conditional-access headend: from a customer's order over MQTT to a right on a TV card.

    Every command that shows something takes --json. Exit codes are documented in docs/operator.md.
    """
    # Not imported above: `cad --help` is to be quick.
    from cad.frame import logs

    logs.configure("warning", "console")


def run(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code; messages about failures go to standard error."""
    try:
        result: Any = cli.main(arguments, prog_name="cad", standalone_mode=False)
    except click.Abort:
        click.echo("cad: interrupted", err=True)
        return ExitCode.ABORTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:
        return _fail(error)
    return result if isinstance(result, int) else ExitCode.OK


def _fail(error: Exception) -> int:
    if (code := code_of(error)) is not None:
        click.echo(f"cad: {error}", err=True)
        return code
    if isinstance(error, ModuleNotFoundError) and (extra := EXTRAS.get(str(error.name).partition(".")[0])):
        click.echo(f"cad: this command needs the extra {extra!r}: pip install 'cad[{extra}]'", err=True)
        return ExitCode.FAILED
    from cad.frame import logs

    # Somebody else's exception may carry the bytes that it stumbled over.
    click.echo(logs.redact_text("".join(traceback.format_exception(error))), nl=False, err=True)
    click.echo("cad: unexpected failure; this is a defect of the program: please report the lines above", err=True)
    return ExitCode.DEFECT


def main() -> None:
    """Entry point of the installed command."""
    sys.exit(run())
