"""A chip that was personalised, in a receiver on the first multiplex of a test's headend."""

from cards.globalplatform.chip import Chip
from cards.session import CardSession
from protocol import card_number
from tests.support.headend import Headend, Viewer


class ChipViewer(Viewer):
    """Like `Viewer`, but the card is what a maker made of a chip."""

    def __init__(self, headend: Headend, chip: Chip) -> None:
        chip.reset()
        self.headend = headend
        self.session = CardSession(chip.process)
        self.address = self.session.read_info().address
        self.number = card_number.spell(self.address)
        self._seen = [0] * len(headend.multiplexers)
        self.blocked = False
