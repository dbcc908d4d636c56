"""S3, S7: six operators sell the same thirty channels, in packages and mixes of their own, in one network."""

import json
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cad.ecmg.services import ServiceBook, criteria_of
from cards.errors import CardRefusedError
from config import load
from emm.ecm import EcmHeader, EcmSealer, Parity
from protocol import card_number
from tests.support.headend import Headend, Viewer, headend
from tests.support.portal_client import Portal, portal

pytestmark = [pytest.mark.integration, pytest.mark.slow]

OPERATORS = [f"op-{number}" for number in range(1, 7)]
CHANNELS = [f"ch-{number}" for number in range(1, 31)]
BUNDLES = {"basic": CHANNELS[:12], "family": CHANNELS[8:20], "movies": CHANNELS[18:26], "sports": CHANNELS[24:30]}
"""Products of several channels, shared by the operators; each channel is a product of its own too."""
IN_ONE_PACKET = 183
"""Bytes of a section that fits one transport packet: 188 without its header and the pointer field."""


@dataclass(frozen=True)
class Offer:
    """An offer, and the channels that each of its products opens."""

    slug: str
    kind: str
    products: list[str]
    choose: int | None = None

    def entry(self) -> dict[str, Any]:
        chosen = {} if self.choose is None else {"choose": self.choose}
        names = {"fi": self.slug, "en": self.slug.title()}
        return {"offer": self.slug, "kind": self.kind, "names": names, "products": self.products} | chosen


def channels(products: list[str]) -> set[str]:
    return {channel for product in products for channel in BUNDLES.get(product, [product])}


def made_up(chance: random.Random) -> list[Offer]:
    """What one operator sells: packages out of bundles and channels, mixes of its own, single channels."""
    packages = [
        Offer(f"pack-{number}", "package", [*chance.sample(sorted(BUNDLES), 2), *chance.sample(CHANNELS, 4)])
        for number in range(3)
    ]
    mixes = [
        Offer(f"mix-{choose}", "mix", chance.sample(CHANNELS, chance.randint(choose + 4, 30)), choose)
        for choose in (4, 8, 12)
    ]
    return [*packages, *mixes, *(Offer(channel, "channel", [channel]) for channel in chance.sample(CHANNELS, 10))]


def settings(text: str) -> str:
    """The settings of the test headend, with thirty services and six operators instead of its own."""
    parts = [text[: text.index("[[networks.services]]")]]
    for number, channel in enumerate(CHANNELS):
        parts.append(
            f'[[networks.services]]\nid = "{channel}"\nname = "Channel {number + 1}"\noriginal_network_id = 1\n'
            f"transport_stream_id = 1\nservice_id = {number + 1}\n"
        )
    products = {channel: [channel] for channel in CHANNELS} | BUNDLES
    for number, (product, opened) in enumerate(products.items()):
        services = json.dumps(opened)
        parts.append(f'[[networks.products]]\nid = "{product}"\nproduct_id = {number + 1}\nservices = {services}\n')
    for number, operator in enumerate(OPERATORS):
        first, last = (card_number.spell(address(number, place)) for place in (0, 999))
        parts.append(
            f'[[operators]]\nid = "{operator}"\nnetwork = "net"\nproducts = {json.dumps(list(products))}\n'
            f'card_ranges = [{{ first = "{first}", last = "{last}" }}]\n'
        )
    return "".join(parts)


def address(operator: int, place: int) -> int:
    return 10_000_000_000 + operator * 100_000 + place


class Scrambler:
    """Makes the ECMs of every service as the ECMG would."""

    def __init__(self, running: Headend) -> None:
        self.headend = running
        networks = load.load(running.config).networks
        book = ServiceBook(networks)
        self.audiences = {
            service: book.audience(criteria, time.time()) for one in networks for service, criteria in criteria_of(one)
        }

    def ecm(self, service: str, words: list[bytes]) -> bytes:
        now, audience = int(time.time()), self.audiences[service]
        header = EcmHeader(Parity.EVEN, now, audience.service_id, self.headend.calendar.epoch(now))
        return EcmSealer(self.headend.ladder).seal(header, list(audience.product_ids), words, os.urandom(16))

    def opened(self, card: Viewer) -> set[str]:
        """The services that a card opens with what it has heard."""
        card.listen()
        found = set()
        for service in self.audiences:
            words = [os.urandom(8), os.urandom(8)]
            try:
                if list(card.session.process_ecm(self.ecm(service, words)).words) == words:
                    found.add(service)
            except CardRefusedError:
                continue
        return found


async def load_catalogue(running: Headend, operator: str, offers: list[Offer]) -> None:
    transport = httpx.AsyncHTTPTransport(uds=str(running.folder / "s"))
    async with httpx.AsyncClient(transport=transport, base_url="http://cad", timeout=60) as client:
        body: dict[str, Any] = {"catalogue": {"operator": operator, "offers": [one.entry() for one in offers]}}
        compared = (await client.post("/v1/offers/compare", json=body)).json()
        assert {one["change"] for one in compared["offers"]} == {"new"}, compared
        loaded = (await client.post("/v1/offers/load", json={**body, "seen": compared["seen"]})).json()
        assert loaded["applied"], loaded
        assert {one["code"] for one in loaded["offers"]} == {"ok"}


async def committed(one: Portal, resource: str, verb: str, **body: Any) -> None:
    reply = (await one.reply(await one.order(resource, verb, body), timeout_s=30)).payload
    assert reply["status"] == "committed", reply


async def order(one: Portal, card: Viewer, name: str, offer: Offer, chance: random.Random, rev: int = 1) -> set[str]:
    """Order an offer, of a mix with a choice; return the channels that it is to open."""
    chosen = offer.products if offer.choose is None else chance.sample(offer.products, offer.choose)
    more = {} if offer.choose is None else {"choice": chosen}
    body = {"subscription": name, "rev": rev, "card": card.number, "offer": offer.slug}
    await committed(one, "subscription", "put", **body, **more)
    return channels(chosen)


async def test_s03_s07_each_card_opens_exactly_what_its_operator_sold_it(tmp_path: Path) -> None:
    chance = random.Random(3107)
    async with headend(tmp_path, multiplexers=1) as running:
        running.write_settings(settings)
        await running.start()
        scrambler = Scrambler(running)
        assert len(scrambler.audiences) == 30
        for service in scrambler.audiences:
            assert len(scrambler.ecm(service, [bytes(8), bytes(8)])) <= IN_ONE_PACKET
        catalogues = {operator: made_up(chance) for operator in OPERATORS}
        expected: list[tuple[Viewer, set[str]]] = []
        for number, (operator, offers) in enumerate(catalogues.items()):
            await load_catalogue(running, operator, offers)
            packages, mixes, singles = offers[:3], offers[3:6], offers[6:]
            cards = [running.card(address(number, place)) for place in range(3)]
            async with portal(running.broker, operator) as one:
                for card in cards:
                    await committed(one, "card", "assign", card=card.number, rev=1, subscriber=card.number)
                wanted = [
                    await order(one, cards[0], "p-0", chance.choice(packages), chance),
                    await order(one, cards[1], "m-1", mixes[1], chance),
                    await order(one, cards[2], "m-2", mixes[0], chance)
                    | await order(one, cards[2], "c-2", chance.choice(singles), chance),
                ]
                changed = await order(one, cards[1], "m-1", mixes[1], chance, rev=2)
                expected += zip(cards, [wanted[0], changed, wanted[2]], strict=True)
        for card, wanted_channels in expected:
            await running.until(
                lambda card=card, wanted=wanted_channels: scrambler.opened(card) == wanted,
                f"card {card.number} to open {sorted(wanted_channels)}",
                30,
            )
        stranger = running.card(address(0, 500))
        assert scrambler.opened(stranger) == set()
