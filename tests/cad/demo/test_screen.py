"""The receiver's screen: what is due is shown once, on its service, in the order it came; the mailbox stays."""

from cad.demo.screen import Screen
from cards.session import CardSession
from emm.notices.content import Fingerprint, Message, Notice, Position, build_content
from emm.notices.seal import NoticeSealer
from protocol import card_number
from tests.support.cards import ADDRESS, LADDER, NOW, blank_card

END = NOW + 60
FORCED = Message(True, NOW, END, (("fi", "Hei"), ("sv", "Hej")))
KEPT = Message(False, NOW, END, (("fi", "Luettavaksi"),))


def receiver(*notices: Notice) -> tuple[CardSession, Screen]:
    card = CardSession(blank_card().process)
    for number, notice in enumerate(notices, 1):
        for section in NoticeSealer(LADDER).to_card(ADDRESS, 1, number, build_content(notice)):
            card.process_emm(section)
    return card, Screen(card, ADDRESS)


def test_what_is_due_is_shown_once_and_the_mailbox_stays() -> None:
    card, screen = receiver(KEPT, FORCED, Fingerprint(NOW, END, 20, Position.CENTRE))
    number = card_number.spell(ADDRESS)
    assert screen.look() == ["Hei", number]
    assert screen.look() == []
    assert screen.shown == ["Hei", number]
    assert [(held.number, held.done) for held in card.mailbox()] == [(1, False), (2, True)]


def test_a_fingerprint_of_a_service_waits_until_that_is_tuned() -> None:
    _, screen = receiver(Fingerprint(NOW, END, 20, Position.CENTRE, 101))
    assert (screen.look(), screen.look(102)) == ([], [])
    assert screen.look(101) == [card_number.spell(ADDRESS)]
