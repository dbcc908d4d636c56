"""C8: a programme that is blacked out in a region is not seen there, and is seen everywhere else, down to the card."""

import os
from datetime import UTC, datetime
from typing import Any

import pytest

from cad.air.sent import CardOnAir
from cad.ecmg.maker import SealingMaker
from cad.ecmg.services import ServiceBook
from cad.explain.document import explain_card, explain_channel
from cards.errors import CardRefusedError
from cards.memory.contents import CardMemory
from cards.memory.state_file import decode, encode
from cards.status_word import EXPLANATIONS, StatusWord
from config.settings import NetworkSettings
from emm.ecm import EcmSealer, parse_ecm
from tests.support.clock import ManualClock
from tests.support.hand_headend import NUMBERS, HandHeadend, Viewer, at
from tests.support.ledgers import Air

COAST, INLAND, NOWHERE = NUMBERS[1], NUMBERS[2], NUMBERS[3]
BEGINS, ENDS = at("2026-12-06 18:00"), at("2026-12-06 21:00")
SPORT = bytes.fromhex("01 0001 0002 0065")


def south(**more: Any) -> NetworkSettings:
    """The network with a blackout of sport on the coast."""
    blackout = {
        "service": "sport-1",
        "regions": ["coast"],
        "starts_at": datetime.fromtimestamp(BEGINS, UTC),
        "ends_at": datetime.fromtimestamp(ENDS, UTC),
    }
    return NetworkSettings.model_validate(
        {
            "id": "south",
            "services": [
                {"id": name, "name": name, "original_network_id": 1, "transport_stream_id": 2, "service_id": service_id}
                for name, service_id in (("sport-1", 101), ("film-1", 102))
            ],
            "products": [
                {"id": "sport", "product_id": 2, "services": ["sport-1"]},
                {"id": "film", "product_id": 3, "services": ["film-1"]},
            ],
            "regions": [
                {"id": "coast", "name": "Coast", "number": 7},
                {"id": "inland", "name": "Inland", "number": 8},
            ],
            "blackouts": [blackout | more],
        }
    )


class Scrambler:
    """Asks the ECMG for ECMs."""

    def __init__(self, headend: HandHeadend, network: NetworkSettings) -> None:
        self.clock = ManualClock()
        self.book = ServiceBook([network])
        self.maker = SealingMaker(EcmSealer(headend.ladder), headend.calendar, self.clock, self.book)

    def ecm(self, moment: float, criteria: bytes = SPORT) -> bytes:
        """The ECM made at a time."""
        self.clock.set(moment)
        return self.maker.make(7, [os.urandom(8), os.urandom(8)], criteria)


def answer(card: Viewer, ecm: bytes) -> int:
    """The status word of a card's answer to an ECM."""
    try:
        card.session.process_ecm(ecm)
    except CardRefusedError as refused:
        return refused.sw
    return StatusWord.OK


@pytest.fixture
def cards(headend: HandHeadend) -> dict[str, Viewer]:
    """A card on the coast, one inland, one of which no region is known; all have sport."""
    headend.done("card assign", card=COAST, subscriber="b", region="coast")
    headend.done("card assign", card=INLAND, subscriber="c", region="inland")
    headend.done("card assign", card=NOWHERE, subscriber="d")
    for number in (COAST, INLAND, NOWHERE):
        headend.done("subscription put", subscription=f"s-{number}", card=number, offer="sport")
    headend.go_to(BEGINS - 3600)
    return {number: headend.card(number).hear() for number in (COAST, INLAND, NOWHERE)}


def seen(cards: dict[str, Viewer], ecm: bytes) -> list[str]:
    """The cards that open an ECM."""
    return [number for number, card in cards.items() if answer(card, ecm) == StatusWord.OK]


def test_c08_a_blackout_holds_in_its_region_for_its_time(headend: HandHeadend, cards: dict[str, Viewer]) -> None:
    scrambler = Scrambler(headend, south())
    for moment, formatted, open_for in (
        (BEGINS - 1, 1, [COAST, INLAND, NOWHERE]),
        (BEGINS, 2, [INLAND]),
        (ENDS - 1, 2, [INLAND]),
        (ENDS, 1, [COAST, INLAND, NOWHERE]),
    ):
        ecm = scrambler.ecm(moment)
        assert (ecm[3], seen(cards, ecm)) == (formatted, open_for), moment - BEGINS
    blackout = scrambler.ecm(BEGINS)
    assert parse_ecm(blackout).header.regions == (0, 7)
    assert len(blackout) <= 183
    assert answer(cards[COAST], blackout) == StatusWord.BLACKED_OUT == 0x9207
    assert "blacked out in the card's region" in EXPLANATIONS[StatusWord.BLACKED_OUT].meaning
    film = scrambler.ecm(BEGINS, bytes.fromhex("01 0001 0002 0066"))
    assert film[3] == 1, "another service is not touched"
    assert answer(cards[COAST], film) == StatusWord.NO_RIGHT


def test_cards_without_a_region_may_be_left_out(headend: HandHeadend, cards: dict[str, Viewer]) -> None:
    scrambler = Scrambler(headend, south(without_region=False))
    assert seen(cards, scrambler.ecm(BEGINS)) == [INLAND, NOWHERE]


def test_who_strips_the_regions_gets_nothing(headend: HandHeadend, cards: dict[str, Viewer]) -> None:
    ecm = Scrambler(headend, south()).ecm(BEGINS)
    end = 14 + 18 * ecm[12]
    assert ecm[end : end + 5] == bytes.fromhex("02 0000 0007")
    stripped = ecm[:end] + ecm[end + 5 :]
    stripped = stripped[:1] + (0x7000 | len(stripped) - 3).to_bytes(2, "big") + b"\x01" + stripped[4:]
    renamed = ecm[: end + 4] + b"\x09" + ecm[end + 5 :]
    for forged in (stripped, renamed):
        parse_ecm(forged)
        assert answer(cards[COAST], forged) == StatusWord.NOT_AUTHENTIC


@pytest.mark.slow
def test_a_card_that_moves_sees_what_its_new_home_may(headend: HandHeadend, cards: dict[str, Viewer]) -> None:
    scrambler = Scrambler(headend, south())
    card = cards[COAST]
    assert headend.done("card region", card=COAST, region="coast")["detail"].startswith("it was so already")
    headend.done("card region", card=COAST, region="inland")
    assert answer(card, scrambler.ecm(BEGINS)) == StatusWord.BLACKED_OUT, "it has not heard of it yet"
    assert answer(card.hear(), scrambler.ecm(BEGINS)) == StatusWord.OK
    headend.done("card region", card=COAST)
    assert answer(card.hear(), scrambler.ecm(BEGINS)) == StatusWord.BLACKED_OUT
    headend.done("card assign", card=COAST, subscriber="b", region="inland")
    headend.sleep_until(BEGINS + 5)
    assert answer(card.hear(), scrambler.ecm(BEGINS + 5)) == StatusWord.OK
    headend.done("card replace", card=COAST, replacement=NUMBERS[5])
    assert answer(headend.card(NUMBERS[5]).hear(), scrambler.ecm(BEGINS + 5)) == StatusWord.OK
    assert headend.order("card region", card=COAST, region="coast")["code"] == "card_state"
    unknown = headend.order("card region", card=INLAND, region="moon")
    assert (unknown["code"], unknown["retryable"]) == ("unknown_region", False)
    assert "coast, inland" in unknown["detail"]


def test_a_card_given_back_forgets_where_it_stood(headend: HandHeadend) -> None:
    headend.done("card assign", card=COAST, subscriber="b", region="coast")
    headend.done("card return", card=COAST)
    headend.done("card release", card=COAST)
    headend.done("card assign", card=COAST, subscriber="c")
    assert headend.view(COAST).traits.region == 0


@pytest.mark.slow
def test_explain_says_until_when(headend: HandHeadend, cards: dict[str, Viewer]) -> None:
    network = south()
    aired = [CardOnAir("mux-1", True, "base", BEGINS, BEGINS)]

    def channel(number: str, now: float) -> tuple[str, str]:
        view = headend.view(number)
        headend.store.first_air([Air(change.change_seq, "mux-1", BEGINS) for change in view.changes], BEGINS)
        service = network.services[0]
        found = explain_channel(headend.view(number), network, service, headend.calendar, now, aired)
        return found["code"], found["sentence"]

    assert channel(COAST, BEGINS) == (
        "blacked_out",
        "sport-1 is blacked out in the card's region until 2026-12-06 19:00 UTC.",
    )
    assert (
        channel(NOWHERE, BEGINS)[1] == "sport-1 is blacked out for cards without a region until 2026-12-06 19:00 UTC."
    )
    assert [channel(INLAND, BEGINS)[0], channel(COAST, ENDS)[0]] == ["visible", "visible"]
    whole = [
        explain_card(headend.view(number), network, headend.calendar, headend.now, aired)["region"] for number in cards
    ]
    assert whole == ["coast", "inland", None]


def test_the_region_outlives_a_restart_of_the_card(headend: HandHeadend, cards: dict[str, Viewer]) -> None:
    memory: CardMemory = cards[COAST].card.memory
    assert decode(encode(memory)).traits.region == memory.traits.region == 7
    assert cards[COAST].session.read_info().region == 7
    assert cards[NOWHERE].session.read_info().region == 0


def test_a_card_without_a_region_is_told_not_a_byte_more(headend: HandHeadend, cards: dict[str, Viewer]) -> None:
    contents = []
    for number in (COAST, NOWHERE):
        slot = headend.roster.slot_of(cards[number].address)
        assert slot is not None
        (section,) = headend.roster.seal(slot, headend.calendar.period(headend.now), headend.calendar, headend.sealer)
        contents.append(len(section))
    assert contents[0] - contents[1] == 4
