"""A receiver with a software card, and beside it the model of what the card has heard."""

from cards.errors import CardRefusedError, PairedError, PinError
from cards.memory.contents import CardKeys
from cards.session import CardSession
from cards.software_card import SoftwareCard
from emm.notices.content import Message
from emm.pairing import ReceiverIdentity
from protocol import receiver_number
from tests.support.emm_reading import GLOBAL, GROUP, UNIQUE, Header
from tests.support.hand_air import HandAir
from tests.support.headend_model.card import HeardCard, Letter
from tests.support.headend_model.state import Fingerprint, Text
from tests.support.whole_headend.scrambler import Ecm


class Receiver:
    """A card in a receiver on one multiplex; switched off it hears nothing. `heard` is the model of the card."""

    def __init__(self, air: HandAir, address: int, multiplex: str, serial: int) -> None:
        self.address, self.multiplex, self.on = address, multiplex, True
        self.ladder = air.ladder
        path = air.folder / f"card-{address}"
        self.card = SoftwareCard.create(path, address, CardKeys.derive(air.ladder, address))
        self.heard = HeardCard()
        self.put_into(serial)

    def put_into(self, serial: int) -> None:
        """The card is put into the receiver with that serial."""
        self.number = receiver_number.of_serial(serial)
        identity = ReceiverIdentity(self.number, self.ladder.pairing_key(self.number))
        self.session = CardSession(self.card.process, receiver=identity)

    def is_meant(self, header: Header) -> bool:
        """What its filters let through: EMMs for its card, for the card's group, for all."""
        mine = {UNIQUE: self.address, GROUP: self.address >> 8, GLOBAL: 0}
        return header.address == mine[header.table_id]

    def shows(self, ecm: Ecm) -> bool:
        """Whether the picture is there with these control words."""
        try:
            return list(self.session.process_ecm(ecm.section).words) == ecm.words
        except (CardRefusedError, PairedError):
            return False

    def give_pin(self, digits: str, new: str) -> bool:
        """Change the PIN."""
        try:
            self.session.change_pin(digits, new)
        except PinError:
            return False
        return True

    def letters(self) -> list[tuple[int, bool, bool, bool, bool]]:
        """What lies in the mailbox: number, done, forced, fingerprint, due."""
        return [(one.number, one.done, one.forced, one.fingerprint, one.due) for one in self.session.mailbox()]

    def look_at(self, number: int) -> None:
        """Somebody reads a letter, or has seen what it shows."""
        self.session.letter(number, mark=True)

    def says(self, number: int, letter: Letter) -> bool:
        """Whether a letter says what it should."""
        held, notice, says = self.session.letter(number), letter.notice, letter.notice.says
        if (held.start, held.end) != (notice.start, notice.end):
            return False
        if isinstance(held, Message):
            return says == Text(held.forced, tuple(sorted(held.texts)))
        position = held.position.name.lower().replace("_", "-")
        return says == Fingerprint(held.duration_s, position, held.service_id)
