"""Everything around the proof: the headend with its broker and multiplexer, cards in the readers of a real pcscd."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cards import pcsc
from cards.memory.contents import CardKeys
from cards.readers.state import CardPresence
from cards.software_card import SoftwareCard
from cards.vpcd import VirtualSlot
from tests.support.broker import free_port
from tests.support.headend import Headend, headend
from tests.support.pcscd import Pcscd, running_pcscd
from tests.support.portal_client import Portal, portal
from tests.support.waiting import wait_until

OPERATOR = "kaisa"
CRYPTO_PERIOD_S = 2.0
ECMG = """
[ecmg]
listen = "127.0.0.1:{port}"
min_cp_duration_s = {period_s}
[[ecmg.clients]]
id = "scrambler"
address = "127.0.0.1"
[[networks]]"""


@dataclass
class Stage:
    """The running parts. `ecmg_port` is where the daemon serves scramblers."""

    folder: Path
    headend: Headend
    portal: Portal
    pcscd: Pcscd
    ecmg_port: int

    def __post_init__(self) -> None:
        self._emms_taken = 0

    def new_emms(self) -> list[bytes]:
        """The EMMs that the multiplexer was given since the last call."""
        sections = self.headend.multiplexers[0].sections[self._emms_taken :]
        self._emms_taken += len(sections)
        return sections

    @contextmanager
    def card(self, address: int, slot: int) -> Iterator[str]:
        """A card as it leaves personalisation, in one of the readers; gives the reader's name."""
        file = self.folder / f"card-{address}-{os.urandom(4).hex()}"
        card = SoftwareCard.create(file, address, CardKeys.derive(self.headend.ladder, address))
        with card, VirtualSlot(card, port=self.pcscd.ports[slot]):
            wait_until(lambda: _presence(slot) is CardPresence.PRESENT, what="the card to be seen in the reader")
            yield self.pcscd.readers[slot]
        wait_until(lambda: _presence(slot) is CardPresence.EMPTY, what="the reader to be empty again")

    async def ask(self, resource: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        """Publish a command and return its reply, which must be a committed one."""
        reply = (await self.portal.reply(await self.portal.order(resource, verb, body))).payload
        assert reply["status"] == "committed", f"{resource} {verb}: {reply}"
        return reply

    async def until(self, look: Callable[[], object], what: str, timeout_s: float = 15) -> None:
        """Wait until `look()` is true."""
        await self.headend.until(look, what, timeout_s)


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """Build everything up; taken down in the opposite order."""
    async with contextlib.AsyncExitStack() as stack:
        pcscd = stack.enter_context(running_pcscd())
        one = await stack.enter_async_context(headend(folder, multiplexers=1))
        port = free_port()
        ecmg = ECMG.format(port=port, period_s=CRYPTO_PERIOD_S)
        one.write_settings(lambda text: text.replace("\n[[networks]]", ecmg, 1))
        await one.start()
        shop = await stack.enter_async_context(portal(one.broker, OPERATOR))
        yield Stage(folder, one, shop, pcscd, port)


def _presence(slot: int) -> CardPresence:
    return pcsc.list_readers()[slot].presence
