"""`cad monitor-camd`: a card in a reader serves one monitoring receiver on this machine."""

import signal
from pathlib import Path

import click

from cad.cli.cards.options import (
    aid_option,
    choose_aid,
    choose_reader,
    names_option,
    receiver_option,
    settings_if_any,
)
from cad.monitor_camd import DEFAULT_PORT, LOOPBACK


def _parse_ca_system_id(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        number = int(value, 0)
    except ValueError:
        number = 0
    if not 1 <= number <= 0xFFFF:
        raise click.BadParameter("write a number from 1 to 0xFFFF, such as 0x4ADE")
    return number


@click.command("monitor-camd")
@click.option("--reader", default=None, help="The reader, by its name or a part of it.  [default: the one with a card]")
@click.option(
    "--password-file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The receiver's password: first line of a file that nobody else can read.",
)
@click.option("--user", default="monitor", show_default=True, help="The receiver's user name.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=DEFAULT_PORT, show_default=True, help="0: any free one."
)
@click.option(
    "--ca-system-id",
    metavar="NUMBER",
    default=None,
    callback=_parse_ca_system_id,
    help="The card's CA_system_id.  [default: that of the settings]",
)
@receiver_option
@aid_option
@names_option
@click.option("--json", "as_json", is_flag=True, help="Log in JSON, for programs.")
def command(
    reader: str | None,
    password_file: Path,
    user: str,
    port: int,
    ca_system_id: int | None,
    receiver_file: Path | None,
    aid: bytes | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Let a receiver on this machine watch your own channels with the card in a reader.

    The receiver (tsdecrypt, for example) hands over EMMs and ECMs by the protocol CS378X, and gets control words back.
    One card, one receiver at a time, only from this machine; everything is logged. Ends on Ctrl-C or SIGTERM.
    """
    from cad.frame import logs
    from cad.monitor_camd import Bridge, MonitoredCard, MonitorServer, read_password
    from cards import pcsc
    from cards import receiver_file as receiver_files
    from protocol import card_number

    settings = settings_if_any(config)
    if ca_system_id is None:
        if settings is None:
            raise click.UsageError("give --ca-system-id, or the headend's settings by --config")
        ca_system_id = settings.ca.ca_system_id
    password = read_password(password_file)
    identity = None if receiver_file is None else receiver_files.read(receiver_file)
    chosen = choose_reader(pcsc.list_readers(), reader)
    card = MonitoredCard(lambda: pcsc.connect(chosen, exclusive=True), choose_aid(aid, settings), identity)
    try:
        number = card_number.spell(card.open())
        logs.configure("info", "json" if as_json else "console")
        server = MonitorServer(Bridge(card, ca_system_id), user, password, port)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: server.stop())
        click.echo(f"card {number} in {chosen} serves a receiver at {LOOPBACK}:{server.port}, user {user}")
        server.run()
    finally:
        card.close()
