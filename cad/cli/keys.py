"""`cad keys`: the master key."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cad.cli.shell.options import config_option, json_option

if TYPE_CHECKING:
    from config.settings import KeysSettings


@click.group("keys")
def group() -> None:
    """Make the master key, or show its fingerprint."""


@group.command("init")
@config_option
@json_option
def init(config: Path, as_json: bool) -> None:
    """Make a new master key, in the file named by keys.file or in the token of keys.token.

    An existing key is never touched. Keep a copy of file and passphrase apart from each other and from this machine, or
    of the token by its vendor's own means: without the key no card in the field can ever be told anything again.
    """
    from cad import keystore
    from config.load import load

    settings = load(config)
    _show(settings.keys, keystore.fingerprint(keystore.create(settings.keys)), as_json)


@group.command("show")
@config_option
@json_option
def show(config: Path, as_json: bool) -> None:
    """Open the master key and show its fingerprint: six digits that tell keys apart and give nothing away."""
    from cad import keystore
    from config.load import load

    settings = load(config)
    _show(settings.keys, keystore.fingerprint(keystore.load(settings.keys)), as_json)


@group.command("import-transport")
@click.argument("vendor_file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--component",
    "components",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    required=True,
    help="A file of mode 0600 with the transport key, or a component of it, in hexadecimal; may be given repeatedly.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The delivery file to make, for cad card batch.",
)
@config_option
@json_option
def import_transport(
    vendor_file: Path, components: tuple[Path, ...], output: Path, config: Path, as_json: bool
) -> None:
    """Open a card vendor's file of transport keys, check every key, and keep them sealed under the master key.

    Several components are joined by exclusive-or. Destroy the vendor's file and the components afterwards.
    """
    from cad import keystore
    from cad.cli.shell.output import show_json
    from cad.stock.transport_keys import import_vendor_file, write_delivery
    from config.load import load

    delivery = import_vendor_file(vendor_file, components, keystore.load(load(config).keys))
    write_delivery(output, delivery)
    if as_json:
        show_json(
            {
                "file": str(output),
                "vendor": delivery.vendor,
                "delivery": delivery.name,
                "key_version": delivery.key_version,
                "chips": len(delivery),
            }
        )
    else:
        click.echo(
            f"{output}: {len(delivery)} chips of delivery {delivery.name} ({delivery.vendor}),"
            f" key set {delivery.key_version:02X}"
        )


@group.command("receiver")
@click.argument("number", metavar="NUMBER")
@click.option(
    "--serial", "is_serial", is_flag=True, help="NUMBER is a serial of 14 digits; its check digits are added."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The receiver's file to make, of mode 0600.",
)
@config_option
@json_option
def receiver(number: str, is_serial: bool, out: Path, config: Path, as_json: bool) -> None:
    """Make the file that a receiver is born with: its NUMBER (16 hexadecimal digits) and its pairing key.

    The maker writes both into the receiver, which never gives the key out, and destroys the file. No key is shown.
    """
    from cad import keystore
    from cad.cli.shell.output import show_json
    from cards import receiver_file
    from config.load import load
    from emm.keys import KeyLadder
    from emm.pairing import ReceiverIdentity
    from protocol import receiver_number

    if is_serial:
        if not re.fullmatch(r"[0-9A-Fa-f]{14}", number):
            raise click.BadParameter("a serial has 14 hexadecimal digits", param_hint="NUMBER")
        found = receiver_number.of_serial(int(number, 16))
    else:
        found = receiver_number.parse(number)
    ladder = KeyLadder(keystore.load(load(config).keys))
    receiver_file.write(out, ReceiverIdentity(found, ladder.pairing_key(found)))
    if as_json:
        show_json({"file": str(out), "receiver": receiver_number.spell(found)})
    else:
        click.echo(f"{out}: receiver {receiver_number.spell(found)}; give it to this receiver alone, then destroy it")


def _show(settings: "KeysSettings", fingerprint: str, as_json: bool) -> None:
    from cad import keystore
    from cad.cli.shell.output import show_json

    if as_json:
        in_file = {"file": str(settings.file)}
        in_token = {"token": settings.token, "key_label": settings.key_label}
        show_json((in_file if settings.kind == "file" else in_token) | {"fingerprint": fingerprint})
    else:
        click.echo(f"{keystore.place(settings)}: fingerprint {fingerprint}")
