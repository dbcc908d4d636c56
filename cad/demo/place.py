"""Where the demo happens: a directory of its own with settings, keys, ledger and logs, gone when it ends."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cad import keystore
from config import load
from config.settings import Settings
from emm.keys import KeyLadder
from protocol import card_number

CA_SYSTEM_ID: Final = 0xCAD0
"""CA_system_id has no range for tests; this one belongs to nobody we know of and must not leave the demo."""

OPERATOR: Final = "demo-telco"
SPORT: Final = "sport-1"
SPORT_SERVICE_ID: Final = 101
SPORT_PRODUCT_ID: Final = 7
EMM_PID: Final = 0x1FF0
FIRST_CARD: Final = 10_000_000_000

SETTINGS: Final = """\
[node]
name = "demo"
state_dir = "{directory}/state"
socket = "{directory}/cad.sock"
http_listen = "127.0.0.1:{http_port}"

[log]
format = "json"

[mqtt]
host = "127.0.0.1"
port = {broker_port}

[keys]
file = "{directory}/master.key"
passphrase_file = "{directory}/passphrase"

[ca]
ca_system_id = {ca_system_id}

[[networks]]
id = "demo-net"

[[networks.multiplexes]]
id = "mux-1"
host = "127.0.0.1"
port = {mux_port}
bandwidth_kbps = 100

[[networks.services]]
id = "sport-1"
name = "Sport 1"
original_network_id = 1
transport_stream_id = 1
service_id = {service_id}

[[networks.products]]
id = "sport"
product_id = {product_id}
services = ["sport-1"]

[[operators]]
id = "{operator}"
network = "demo-net"
products = ["sport"]
card_ranges = [{{ first = "{first}", last = "{last}" }}]
"""


@dataclass(frozen=True, slots=True)
class DemoPlace:
    """The demo's files and the keys that its cards are made from."""

    directory: Path
    config: Path
    settings: Settings
    ladder: KeyLadder


def prepare(directory: Path, broker_port: int, mux_port: int, http_port: int, template: str = SETTINGS) -> DemoPlace:
    """Write settings, passphrase and master key below `directory`, readable by nobody else."""
    directory.chmod(0o700)
    (directory / "state").mkdir(mode=0o700)
    passphrase = directory / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text(secrets.token_urlsafe(32))
    config = directory / "cad.toml"
    config.write_text(
        template.format(
            directory=directory,
            http_port=http_port,
            broker_port=broker_port,
            mux_port=mux_port,
            ca_system_id=CA_SYSTEM_ID,
            service_id=SPORT_SERVICE_ID,
            product_id=SPORT_PRODUCT_ID,
            operator=OPERATOR,
            first=card_number.spell(FIRST_CARD),
            last=card_number.spell(FIRST_CARD + 99),
        )
    )
    settings = load.load(config)
    return DemoPlace(directory, config, settings, KeyLadder(keystore.create(settings.keys)))
