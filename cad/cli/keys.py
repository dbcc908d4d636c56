"""`cad keys`: the master key."""

from pathlib import Path

import click

from cad.cli.options import config_option, json_option


@click.group("keys")
def group() -> None:
    """Make the master key, or show its fingerprint."""


@group.command("init")
@config_option
@json_option
def init(config: Path, as_json: bool) -> None:
    """Make a new master key in the file named by keys.file, sealed by the passphrase of the settings.

    An existing file is never overwritten. Keep a copy of the file and the passphrase apart from each other and from
    this machine: without them no card in the field can ever be told anything again.
    """
    from cad import keystore
    from config.load import load

    settings = load(config)
    _show(settings.keys.file, keystore.fingerprint(keystore.create(settings.keys)), as_json)


@group.command("show")
@config_option
@json_option
def show(config: Path, as_json: bool) -> None:
    """Open the master key and show its fingerprint: six digits that tell keys apart and give nothing away."""
    from cad import keystore
    from config.load import load

    settings = load(config)
    _show(settings.keys.file, keystore.fingerprint(keystore.load(settings.keys)), as_json)


def _show(path: Path, fingerprint: str, as_json: bool) -> None:
    from cad.cli.output import show_json

    if as_json:
        show_json({"file": str(path), "fingerprint": fingerprint})
    else:
        click.echo(f"{path}: fingerprint {fingerprint}")
