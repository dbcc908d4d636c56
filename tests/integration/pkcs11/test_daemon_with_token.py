"""C10: a daemon whose master key never leaves its token opens a channel on a card made with the same token."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from cad import keystore
from config.load import load
from emm.keys import KeyLadder
from tests.support.headend import FIRST, headend
from tests.support.portal_client import portal
from tests.support.softhsm import MODULE, PIN, SoftHsm

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("softhsm")]


async def test_an_order_opens_a_channel_with_the_master_key_in_a_token(hsm: SoftHsm, tmp_path: Path) -> None:
    async with headend(tmp_path, multiplexers=1) as running:
        pin = tmp_path / "pin"
        pin.touch(mode=0o600)
        pin.write_text(PIN)
        in_file = f'file = "{tmp_path}/master.key"\npassphrase_file = "{tmp_path}/passphrase"'
        in_token = f'kind = "pkcs11"\nmodule = "{MODULE}"\ntoken = "daemon"\npassphrase_file = "{pin}"'
        running.write_settings(lambda text: text.replace(in_file, in_token))
        (tmp_path / "master.key").unlink()
        settings = load(running.config)
        assert settings.keys.kind == "pkcs11"
        running.ladder = KeyLadder(await asyncio.to_thread(keystore.create, settings.keys))
        await running.start()
        card = running.card(FIRST["kaisa"])
        async with portal(running.broker, "kaisa") as kaisa:
            for resource, verb, body in (
                (
                    "offer",
                    "put",
                    {"offer": "sport", "rev": 1, "kind": "channel", "names": {"fi": "U"}, "products": ["sport"]},
                ),
                ("card", "assign", {"card": card.number, "rev": 1, "subscriber": "customer"}),
                ("subscription", "put", {"subscription": "s-1", "rev": 1, "card": card.number, "offer": "sport"}),
            ):
                reply = (await kaisa.reply(await kaisa.order(resource, verb, body))).payload
                assert reply["status"] == "committed", reply
        await running.until(lambda: card.opens("sport-1", time.time()), "the channel to open")
        assert await running.stop() == 0
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != pin)
        assert PIN.encode() not in written
        assert os.environ["SOFTHSM2_CONF"] == hsm.environment["SOFTHSM2_CONF"]
