"""The screen of a receiver: shows what its card has to be shown, once each, as docs/card.md tells receivers to."""

from cards.session import CardSession
from emm.notices.content import Fingerprint
from protocol import card_number


class Screen:
    """Of the receiver that holds the card of `session`. `shown`: every text so far, in its first language."""

    def __init__(self, session: CardSession, address: int) -> None:
        self.shown: list[str] = []
        self._session = session
        self._number = card_number.spell(address)

    def look(self, service_id: int | None = None) -> list[str]:
        """Show what is due while that service is tuned, and mark it; return the texts.

        A fingerprint for another service waits until that is tuned. Letters of the mailbox stay there.
        """
        texts: list[str] = []
        for held in self._session.mailbox():
            if not held.due:
                continue
            notice = self._session.letter(held.number)
            if isinstance(notice, Fingerprint):
                if notice.service_id not in (0, service_id):
                    continue
                texts.append(self._number)
            else:
                texts.append(notice.texts[0][1])
            self._session.letter(held.number, mark=True)
        self.shown += texts
        return texts
