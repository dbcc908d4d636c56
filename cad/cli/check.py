"""`cad check`."""

from pathlib import Path

import click

from cad.cli.shell.options import daemon_options


@click.command("check")
@click.option(
    "--deep", is_flag=True, help="Also check everything around: disk, keys, ledger, broker, multiplexers, clock."
)
@daemon_options
def command(deep: bool, config: Path, socket_path: Path | None, as_json: bool) -> int:
    """Check the settings and say all that is wrong at once; with --deep everything that the daemon needs.

    Exit code 3 when the settings cannot be used, 4 when a check fails. LOOK is advice and does not fail.
    """
    from cad import checks
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, show_json, table
    from config.load import load

    settings = load(config)
    findings = list(checks.shallow(settings))
    if deep:
        with daemon(config, socket_path or settings.node.socket) as client:
            findings += checks.deep(settings, client.get)
    failed = [one for one in findings if one.verdict is checks.Verdict.FAIL]
    if as_json:
        show_json({"ok": not failed, "settings": str(config), "checks": [one.as_dict() for one in findings]})
    else:
        out = console()
        out.print(table(["", "check", "found"], [[one.verdict, one.name, one.text] for one in findings]))
        for one in findings:
            if one.advice and one.verdict is not checks.Verdict.OK:
                out.print(f"{one.verdict} {one.name}: {one.advice}", markup=False, soft_wrap=True)
        out.print(f"{settings.node.name}: {len(failed)} failed" if failed else f"{settings.node.name}: all well")
    return 4 if failed else 0
