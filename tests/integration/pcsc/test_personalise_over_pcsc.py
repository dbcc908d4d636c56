"""M5: a chip in software becomes a customer's card through the real pcscd, also when it is pulled out on the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cards import pcsc
from cards.apdu import CommandApdu, ResponseApdu
from cards.errors import PcscError
from cards.globalplatform.chip import Chip
from cards.globalplatform.commands import CardLifeCycle
from cards.globalplatform.dialogue import link, run
from cards.globalplatform.scp03.keys import Mode
from cards.readers.state import CardPresence
from cards.session import CardSession
from emm.plan import Right
from tests.support.cards import ADDRESS, NOW, WORDS, ecm, emm
from tests.support.globalplatform import INITIAL_VERSION, ORDER, POLICY, SERIAL, Counter, static_keys, terms, whole_life
from tests.support.waiting import wait_until

SHORT = link(extended=False)
pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("pcscd")]


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[Chip]:
    made = Chip.create(tmp_path, SERIAL, static_keys(INITIAL_VERSION), POLICY)
    yield made
    made.close()


def through(connection: pcsc.Connection):
    """The connection as a dialogue's driver wants it."""
    return lambda command: ResponseApdu.decode(connection.transmit(command.encode()))


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("extended", [False, True])
def test_from_stock_to_an_opened_channel_through_the_reader(pcscd, insert, chip, mode, extended):
    insert(chip)
    how = link(extended=extended)
    with pcsc.connect(pcscd.readers[0]) as connection, connection.transaction():
        receipt = run(whole_life(how, terms(mode=mode)), through(connection))
        assert receipt.address == ADDRESS
        session = CardSession(connection.transmit)
        for section in emm(Right(1, NOW - 100, None)):
            session.process_emm(section)
        assert bytes(session.process_ecm(ecm(1)).words[0]) == WORDS[0]


@pytest.mark.parametrize("at", [4, 9, 13, 19, 25])
def test_a_card_pulled_out_on_the_way_is_finished_the_next_time(pcscd, insert, chip, at):
    slot = insert(chip)
    heard: list[CommandApdu] = []

    def pulling(command: CommandApdu) -> ResponseApdu:
        heard.append(command)
        if len(heard) == at:
            slot.pull()
            wait_until(
                lambda: pcsc.list_readers()[0].presence is CardPresence.EMPTY, what="the card to be seen leaving"
            )
        return through(connection)(command)

    with pcsc.connect(pcscd.readers[0]) as connection, pytest.raises(PcscError):
        run(whole_life(SHORT, terms()), pulling)
    assert len(heard) == at
    slot.remove()
    insert(chip)
    with pcsc.connect(pcscd.readers[0]) as connection:
        run(whole_life(SHORT, terms(random=Counter(1000))), through(connection))
    assert chip.state.life_cycle is CardLifeCycle.SECURED
    assert chip.state.personal == ORDER.data
