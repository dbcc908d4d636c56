"""One pcscd of our own for all tests of this folder; cards that go in and out of its two readers."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cards.memory.contents import CardKeys
from cards.software_card import SoftwareCard
from cards.vpcd import VirtualSlot
from tests.support.cards import LADDER
from tests.support.laptop import TechnicianLaptop
from tests.support.pcscd import Pcscd, running_pcscd
from tests.support.technician import KAISA, FieldHeadend, field_headend


@pytest.fixture(scope="session")
def _daemon() -> Iterator[Pcscd]:
    with running_pcscd() as daemon:
        yield daemon


@pytest.fixture
def pcscd(_daemon: Pcscd) -> Pcscd:
    """pcscd with both readers empty at the start of the test, even where the one before killed it."""
    from cards import pcsc
    from cards.readers.state import CardPresence
    from tests.support.waiting import wait_until

    if not _daemon.running:
        _daemon.start()
    wait_until(
        lambda: [state.presence for state in pcsc.list_readers()] == [CardPresence.EMPTY] * 2, what="both readers empty"
    )
    return _daemon


@pytest.fixture
def make_card(tmp_path: Path) -> Iterator[object]:
    """Makes software cards by address."""
    cards: list[SoftwareCard] = []

    def make(address: int) -> SoftwareCard:
        cards.append(SoftwareCard.create(tmp_path / f"card-{address}", address, CardKeys.derive(LADDER, address)))
        return cards[-1]

    yield make
    for card in cards:
        card.close()


@pytest.fixture
def insert(pcscd: Pcscd) -> Iterator[object]:
    """Puts a card into slot 0 or 1 and waits until pcscd sees it."""
    from cards import pcsc
    from cards.readers.state import CardPresence
    from tests.support.waiting import wait_until

    slots: list[VirtualSlot] = []

    def put(card: object, slot: int = 0, keep: bool = False) -> VirtualSlot:
        made = VirtualSlot(card, port=pcscd.ports[slot], keep=keep)
        made.insert()
        slots.append(made)
        wait_until(lambda: pcsc.list_readers()[slot].presence is not CardPresence.EMPTY, what="the card to be seen")
        return made

    yield put
    for slot in slots:
        slot.remove()


@pytest.fixture
async def headend(tmp_path: Path) -> AsyncIterator[FieldHeadend]:
    """A headend that knows one card since an hour ago."""
    async with field_headend(tmp_path) as made:
        made.clock.set(time.time() - 3600)
        await made.set_up(KAISA)
        made.clock.set(time.time())
        yield made


@pytest.fixture
def laptop(headend: FieldHeadend, pcscd: Pcscd, tmp_path: Path) -> TechnicianLaptop:
    """A technician's laptop with the readers of our pcscd."""
    return TechnicianLaptop(headend, tmp_path, pcscd.environment)
