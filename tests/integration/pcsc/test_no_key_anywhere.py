"""Known keys through a card's whole life: chip, stock, order, verdict, refresh, page, errors; then everything that was
said, written, stored or sent is searched for them (I8).
"""

import asyncio
import base64
import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cad import keystore
from cad.ledger.store import FILE_NAME as LEDGER
from cad.stock.transport_keys import read_delivery, write_delivery
from cards.globalplatform.chip import Chip
from cards.globalplatform.key_ring import DerivedKeyRing
from cards.memory.contents import CardKeys
from cards.software_card import SoftwareCard
from config.load import load
from emm.keys import LocalMasterKey
from protocol import card_number
from tests.support.broker import HOST, free_port
from tests.support.cards import OTHER_LADDER
from tests.support.globalplatform import TRANSPORT, static_keys
from tests.support.headend import FIRST, PRODUCTS, Headend, headend
from tests.support.portal_client import portal
from tests.support.stock import TRANSPORT_KEY, chip_in, delivery, serial, vendor_file

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.xdist_group("pcscd")]

CHIPS = 2
TECHNICIANS = """
[technicians]
listen = "127.0.0.1:{port}"
ca_file = "{pki}/ca.pem"
cert_file = "{pki}/headend.pem"
key_file = "{pki}/headend.key"
[[technicians.people]]
name = "anna"
operator = "kaisa"
"""
LAPTOP = """
headend = "https://{host}:{port}"
ca_file = "{pki}/ca.pem"
cert_file = "{pki}/anna.pem"
key_file = "{pki}/anna.key"
state_dir = "{folder}/laptop"
"""
STUMBLES = """
import sys
from pathlib import Path
from cad import keystore
from config.load import load
from emm.keys import KeyLadder
from cad.cli import main

def stumble(*_, **__):
    key = bytes(KeyLadder(keystore.load(load(Path(sys.argv.pop())).keys)).card_key({address}, 1))
    raise ValueError(f"cannot use {{key!r}} or {{key.hex()}}")

main.cli.main = stumble
main.main()
"""
KEEPERS = ("chip-0", "chip-1", "copy", "pki", "given", "passphrase", "passphrase-of-another")
"""What holds secrets by its nature, in the test's folder: memories of cards, certificates' keys, what is given."""


class Recorded:
    """A card in a reader; what it hears and says is written down, and it may slip out at a command."""

    def __init__(self, card: Any, trace: list[bytes], pull_at: int = 0) -> None:
        self._card, self._trace, self._pull_at = card, trace, pull_at
        self.slot: Any = None

    @property
    def atr(self) -> bytes:
        return self._card.atr

    def reset(self) -> None:
        self._card.reset()

    def process(self, command: bytes) -> bytes:
        self._trace.append(command)
        answer = self._card.process(command)
        self._trace.append(answer)
        self._pull_at -= 1
        if self._pull_at == 0:
            self.slot.pull()
        return answer


class Life:
    """Runs commands, and keeps all that they say."""

    def __init__(self, one: Headend, environment: dict[str, str], port: int) -> None:
        folder, pki = one.folder, one.broker.authority.folder
        self.one, self.folder = one, folder
        self.said: list[bytes] = []
        self.trace: list[bytes] = []
        (folder / "technician.toml").write_text(LAPTOP.format(host=HOST, port=port, pki=pki, folder=folder))
        (folder / "tmp").mkdir()
        self.environment = {
            **environment,
            "CAD_TECHNICIAN": str(folder / "technician.toml"),
            "TMPDIR": str(folder / "tmp"),
            "PYTHONUNBUFFERED": "1",
        }

    async def cad(self, *arguments: str, code: int = 0) -> str:
        """One command with its expected exit code; what it said."""
        return await self.run([sys.executable, "-m", "cad", *arguments], code)

    async def run(self, command: list[str], code: int) -> str:
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, env=self.environment, cwd=self.folder, timeout=120
        )
        self.said += [done.stdout, done.stderr]
        text = (done.stdout + done.stderr).decode()
        assert done.returncode == code, text
        return text

    async def page(self) -> None:
        """The technician's page, from the first look to a refresh."""
        command = [sys.executable, "-m", "cad", "card", "gui", "--port", "0"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment, cwd=self.folder
        ) as gui:
            try:
                url = (await asyncio.to_thread(gui.stdout.readline)).split()[1].decode()
                async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                    page = await client.get("/")
                    token = {"X-Cad-Token": page.text.split('const token = "')[1].split('"')[0]}
                    refreshed = await client.post("/refresh", headers=token)
                    state = await client.get("/state", headers=token)
                    assert state.json()["report"]["passed"], state.text
                    self.said += [page.content, refreshed.content, state.content]
            finally:
                gui.terminate()
                self.said += await asyncio.to_thread(gui.communicate)

    def everything(self) -> dict[str, bytes]:
        """All that was said, sent and stored, by where it stands."""
        found = {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.relative_to(self.folder).parts[0] not in KEEPERS
        }
        on_air = [section for mux in self.one.multiplexers for section in mux.whole_sections]
        return found | {"said": b"\n".join(self.said), "APDU": b"\n".join(self.trace), "air": b"\n".join(on_air)}


@pytest.fixture
async def life(tmp_path: Path, pcscd) -> AsyncIterator[Life]:
    async with headend(tmp_path, multiplexers=1) as one:
        port, pki = free_port(), one.broker.authority.folder
        one.broker.authority.issue("headend")
        one.broker.authority.context("anna")
        one.write_settings(lambda text: text + TECHNICIANS.format(port=port, pki=pki))
        await one.start()
        yield Life(one, pcscd.environment, port)


async def order(one: Headend, number: str) -> None:
    """The card is given to a customer, who orders the sport."""
    async with portal(one.broker, "kaisa") as kaisa:
        offer = {"offer": "sport", "rev": 1, "kind": "channel", "names": {"fi": "Urheilu"}, "products": ["sport"]}
        for resource, verb, body in (
            ("offer", "put", offer),
            ("card", "assign", {"card": number, "rev": 1, "subscriber": "customer"}),
            ("subscription", "put", {"subscription": "s", "rev": 1, "card": number, "offer": "sport"}),
        ):
            reply = (await kaisa.reply(await kaisa.order(resource, verb, body))).payload
            assert reply["status"] == "committed", reply


def secrets_of(one: Headend, chips: list[Chip], address: int) -> dict[str, bytes]:
    """Every key that has a part in this."""
    settings = load(one.config).keys
    master = keystore.unseal(settings.file.read_bytes(), keystore.read_passphrase(settings))
    ladder = one.ladder
    ring = DerivedKeyRing(LocalMasterKey(master), 0x31, delivery(CHIPS, LocalMasterKey(master)))
    keys = CardKeys.derive(ladder, address)
    found = {
        "master key": bytes(master),
        "passphrase": b"a passphrase for tests only",
        "vendor's transport key": TRANSPORT_KEY,
        "audit key": bytes(ladder.audit_key()),
        "key of extracts": bytes(ladder.extract_key()),
        "card key": bytes(keys.card_key),
        "group key": bytes(keys.group_key),
        "global key": bytes(keys.global_key),
        "key of a copy": bytes(CardKeys.derive(OTHER_LADDER, address).card_key),
    }
    epoch = one.calendar.epoch(one.config.stat().st_mtime)
    for product in PRODUCTS.values():
        for number in range(epoch - 1, epoch + 2):
            found[f"key of product {product}, epoch {number}"] = bytes(ladder.product_key(product, number))
    for number in range(CHIPS):
        sets = {"transport": static_keys(TRANSPORT, serial(number)), "own": ring.static_keys(0x31, serial(number))}
        for which, one_set in sets.items():
            for name, key in zip(("ENC", "MAC", "DEK"), one_set.keys, strict=True):
                found[f"{which} {name} of chip {number}"] = key.reveal()
    return found


def forms(secret: bytes) -> list[bytes]:
    """How a secret may look in an output, in lower case but for the bytes themselves; 32 bytes by halves too."""
    parts = [secret[:16], secret[16:]] if len(secret) == 32 else [secret]
    found: list[bytes] = []
    for part in parts:
        spelt = [part.hex(), part.hex(" "), part.hex(":"), str(list(part))[1:-1], repr(part)[2:-1]]
        found += [part, *(form.lower().encode() for form in spelt)]
    return [*found, base64.b64encode(secret)[:-3].lower(), base64.urlsafe_b64encode(secret)[:-3].lower()]


def search(everything: dict[str, bytes], secrets: dict[str, bytes]) -> list[str]:
    """Which secret stands where."""
    found = []
    for place, data in everything.items():
        lower = data.lower()
        for name, secret in secrets.items():
            if any(form in data or form in lower for form in forms(secret)):
                found.append(f"{name} in {place}")
    return found


async def make_the_card(life: Life, chips: list[Chip], insert) -> str:
    """From the vendor's file to a card in stock; pulled out once on the way. Its number."""
    settings = load(life.one.config)
    master = keystore.load(settings.keys)
    write_delivery(life.folder / "d17.keys", delivery(CHIPS, master))
    given = life.folder / "given"
    given.mkdir(mode=0o700)
    (given / "vendor.json").write_bytes(vendor_file(CHIPS))
    (given / "component").write_text(TRANSPORT_KEY.hex())
    (given / "component").chmod(0o600)
    config = ["--config", str(life.one.config)]
    imported = ["keys", "import-transport", str(given / "vendor.json"), "--component", str(given / "component")]
    await life.cad(*imported, "--output", str(life.folder / "d17-imported.keys"), *config)
    assert len(read_delivery(life.folder / "d17-imported.keys", master)) == CHIPS
    provision = ["card", "provision", "--operator", "kaisa", "--transport-keys", str(life.folder / "d17.keys"), *config]
    slipping = Recorded(chips[0], life.trace, pull_at=12)
    slipping.slot = slot = insert(slipping)
    assert "taken out" in await life.cad(*provision, code=10)
    slot.remove()
    slot = insert(Recorded(chips[0], life.trace))
    await life.cad(*provision, "--json")
    await life.cad(*provision)
    slot.remove()
    address = chips[0].state.personal.identity.address
    assert address == FIRST["kaisa"]
    return card_number.spell(address)


async def errors(life: Life, insert, number: str) -> None:
    """What goes wrong in the field: a copy, a wrong passphrase, a damaged key file, a defect of the program."""
    config = ["--config", str(life.one.config)]
    address = card_number.parse(number)
    with SoftwareCard.create(life.folder / "copy", address, CardKeys.derive(OTHER_LADDER, address)) as copy:
        slot = insert(Recorded(copy, life.trace))
        assert "not genuine" in await life.cad("card", "verify", code=4)
        slot.remove()
    (life.folder / "passphrase-of-another").write_text("another passphrase for tests")
    (life.folder / "passphrase-of-another").chmod(0o600)
    wrong = life.folder / "wrong.toml"
    text = life.one.config.read_text()
    wrong.write_text(text.replace(f'{life.folder}/passphrase"', f'{life.folder}/passphrase-of-another"'))
    assert "passphrase is wrong" in await life.cad("keys", "show", "--config", str(wrong), code=6)
    damaged = life.folder / "damaged.key"
    damaged.write_bytes((life.folder / "master.key").read_bytes()[:-40])
    damaged.chmod(0o600)
    wrong.write_text(text.replace("master.key", "damaged.key"))
    await life.cad("keys", "show", "--config", str(wrong), code=6)
    await life.cad("keys", "show", *config)
    stumbling = [sys.executable, "-c", STUMBLES.format(address=address), str(life.one.config)]
    assert "ValueError: cannot use" in await life.run(stumbling, 1)


async def test_no_key_stands_anywhere_after_a_whole_life(life: Life, insert, tmp_path: Path) -> None:
    with contextlib.ExitStack() as held:
        chips = [held.enter_context(contextlib.closing(chip_in(tmp_path, number))) for number in range(CHIPS)]
        number = await make_the_card(life, chips, insert)
        await order(life.one, number)
        slot = insert(Recorded(chips[0], life.trace))
        await life.cad("card", "verify", code=4)
        await life.cad("card", "refresh", "--json")
        await life.cad("card", "verify")
        await life.cad("card", "read", "--json")
        await life.cad("field", "fetch")
        await life.cad("card", "verify", "--offline", "--json")
        await life.cad("field", "send")
        await life.page()
        slot.remove()
        await errors(life, insert, number)
        for path in (f"/v1/explain/{number}", "/v1/audit/export", "/v1/status", "/metrics"):
            life.said.append((await life.one.ask(path)).content)
        assert life.one.process is not None
        limits = Path(f"/proc/{life.one.process.pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), limits
        secrets = secrets_of(life.one, chips, card_number.parse(number))
        assert await life.one.stop() == 0
        everything = life.everything()
        ledger = f"state/{LEDGER}"
        assert {"cad.log", "d17.keys", "master.key", ledger} <= set(everything), sorted(everything)
        assert life.one.multiplexers[0].whole_sections
        assert number.encode() in everything["said"]
        # The search finds what is there: the memory of the chip holds its keys.
        keeper = {"chip": b"".join(p.read_bytes() for p in (tmp_path / "chip-0").rglob("*") if p.is_file())}
        assert "card key in chip" in search(keeper, secrets)
        assert search(everything, secrets) == []
