"""X7, I1, I2, I3, I5, I6: random orders, crashes, clocks and faults against a model written from the pages.

Each life drives the real ledger, carousels and channels under one clock and compares, after each step, what the ledger
holds, what every card's EMM says, and what software cards open that have heard it. `CAD_LIVES` and `CAD_STEPS` look
longer: CAD_LIVES=2000 CAD_STEPS=100 pytest tests/cad/test_whole_headend.py
"""

import json
import os
import shutil
import struct
import tempfile
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cad.ledger.look import reading
from cad.ledger.model import Grants, OperatorGrant
from cards.errors import CardRefusedError
from cards.memory.contents import CardKeys
from cards.session import CardSession
from cards.software_card import SoftwareCard
from config.settings import NetworkSettings
from protocol import card_number
from protocol.portal.fields import spell_moment
from tests.support import reference_formats as reference
from tests.support.hand_air import MASTER, HandAir
from tests.support.hand_clock import HandClock
from tests.support.headend_model import DAY, HeadendModel, Operator, Windows, edges, opens
from tests.support.ledgers import order

LIVES = int(os.environ.get("CAD_LIVES", "16"))
STEPS = int(os.environ.get("CAD_STEPS", "40"))
MEMORY = Path("/dev/shm")
HELSINKI = ZoneInfo("Europe/Helsinki")
PRODUCTS = {"basic": 1, "sport": 2, "film": 3}
MUXES = ("mux-1", "mux-2")
CARDS = {"karjaa": range(10), "kaspnet": range(1000, 1003)}
KNOWN = (1, 2, 3, 1000)
ADDRESSES = (1, 2, 3, 4, 1000, 5000)
"""Cards that orders speak of; the last one is nobody's."""
GRANTS = Grants(
    {
        "karjaa": OperatorGrant("south", PRODUCTS, ((0, 9),), MUXES, "Europe/Helsinki"),
        "kaspnet": OperatorGrant("south", {"sport": 2}, ((1000, 1002),), MUXES, "Europe/Helsinki"),
    }
)
NETWORK = NetworkSettings.model_validate(
    {
        "id": "south",
        "multiplexes": [{"id": name, "host": "127.0.0.1", "port": 1, "client_id": 1} for name in MUXES],
    }
)
BEGINNINGS = [
    datetime.fromisoformat(text).replace(tzinfo=HELSINKI).timestamp()
    for text in ("2026-03-28 20:00", "2026-10-24 22:30", "2027-12-31 12:00", "2028-01-31 09:00", "2028-02-28 23:59:58")
]
OFFERS: dict[str, dict[str, Any]] = {
    "basic": {},
    "sport": {"requires": ["basic"]},
    "film": {"minimum_months": 2, "ended_by": "customer-service"},
    "season": {"fixed_months": 1},
    "loose": {},
}
COMMANDS = (
    *("card assign", "card suspend", "card reopen", "card report", "card replace", "card return", "card release"),
    *("card blacklist", "card refresh", "card reopen", "offer put", "subscription end"),
    *("subscription put",) * 6,
)
AHEAD = [-40 * DAY, -DAY, -1, 0, 1, 60, 3600, DAY, 5 * DAY, 6 * DAY, 11 * DAY, 31 * DAY, 70 * DAY]


@dataclass
class Heard:
    """What a card holds of its EMM, by the model."""

    version: tuple[int, int]
    content: Windows | None


class Receiver:
    """A receiver with a card on one multiplex; switched off it hears nothing."""

    def __init__(self, air: HandAir, address: int, multiplex: str) -> None:
        self.address, self.multiplex, self.on = address, multiplex, True
        path = air.folder / f"card-{address}"
        self.session = CardSession(SoftwareCard.create(path, address, CardKeys.derive(air.ladder, address)).process)
        self.heard: Heard | None = None

    def opens(self, product: str, at: int) -> bool:
        words = [os.urandom(8), os.urandom(8)]
        epoch = at // (30 * DAY)
        ecm = reference.ecm(MASTER, 0x80, at, 101, epoch, [PRODUCTS[product]], words, os.urandom(16))
        try:
            return list(self.session.process_ecm(ecm).words) == words
        except CardRefusedError:
            return False


class WholeHeadend(RuleBasedStateMachine):
    """Random lives."""

    @initialize(beginning=st.sampled_from(BEGINNINGS))
    def begin(self, beginning: float) -> None:
        self.temporary = tempfile.TemporaryDirectory(prefix="cad-whole-", dir=MEMORY if MEMORY.is_dir() else None)
        self.folder = Path(self.temporary.name)
        self.clock = HandClock(beginning)
        (self.folder / "life-0").mkdir()
        self.air = HandAir(self.folder, GRANTS, NETWORK, self.clock)
        self.model = HeadendModel(
            {
                "karjaa": Operator(tuple(PRODUCTS), CARDS["karjaa"], HELSINKI),
                "kaspnet": Operator(("sport",), CARDS["kaspnet"], HELSINKI),
            }
        )
        self.ids = 0
        self.sent_before: list[tuple[str, str, str, dict[str, Any]]] = []
        self.now = self.clock.now()
        self.told: dict[int, tuple[tuple[int, int], tuple[bytes, ...]]] = {}
        self.on_stream: dict[tuple[str, int], tuple[tuple[int, int], dict[int, bytes]]] = {}
        self.contents: dict[tuple[int, int], Windows | None] = {}
        self.image: tuple[Path, HeadendModel] | None = None
        self.image_at, self.was_put_back = 0.0, False
        self.receivers = {a: Receiver(self.air, a, MUXES[n % 2]) for n, a in enumerate((1, 2, 3, 4, 1000))}
        for operator, cards in (("karjaa", (1, 2, 3)), ("kaspnet", (1000,))):
            for slug, terms in OFFERS.items():
                if operator == "karjaa" or slug in ("basic", "loose"):
                    products = ["sport"] if operator == "kaspnet" or slug in ("season", "loose") else [slug]
                    self.put_offer(operator, slug, 1, products, terms)
            for card in cards:
                self.give([self.made(operator, "card assign", card=card, rev=1, subscriber=f"home-{card % 2}")])
        self.give([self.made("karjaa", "subscription put", subscription="a", rev=1, card=1, offer="basic")])
        self.compare()

    def teardown(self) -> None:
        if not hasattr(self, "air"):
            return
        try:
            check = self.air.store.begin_check(None)
            check.take(self.air.store.read(lambda held: reading.audit_rows(held, 0, 10**6)))
            check.finish(accept_rollbacks=True)
            self.air.publish()
            self.compare_published()
        finally:
            self.air.close()
            self.temporary.cleanup()

    # Orders

    def made(self, operator: str, command: str, **body: Any) -> tuple[str, str, str, dict[str, Any]]:
        self.ids += 1
        return operator, command, f"id-{self.ids}", body

    def put_offer(self, operator: str, slug: str, rev: int, products: list[str], terms: dict[str, Any]) -> None:
        body = {"offer": slug, "rev": rev, "products": products, "terms": terms, "kind": "channel"}
        self.give([self.made(operator, "offer put", names={"fi": slug}, **body)])

    def give(self, batch: list[tuple[str, str, str, dict[str, Any]]]) -> None:
        """Send orders in one batch; the answers must be the model's, and what they change is noted."""
        outcomes = self.air.take([spelt(*one) for one in batch])
        self.model.pass_time(self.clock.now())
        for one, outcome in zip(batch, outcomes, strict=True):
            assert outcome.reply is not None
            expected = self.model.take(*one, self.clock.now())
            said = (str(outcome.reply.status), str(outcome.code))
            assert said == expected, f"{one} was answered {said}, not {expected}: {outcome.reply.detail}"
            assert not (expected[0] != "committed" and outcome.card_changes), "I2"
        self.sent_before += batch

    @rule(data=st.data(), size=st.integers(1, 4))
    def orders(self, data: st.DataObject, size: int) -> None:
        self.give([self.draw_order(data) for _ in range(size)])
        self.compare()

    @rule(data=st.data(), rest=st.booleans())
    def order_and_end(self, data: st.DataObject, rest: bool) -> None:
        """Orders for the card that is most in use: lives should not be all refusals."""
        rev = self.next_rev(self.model.services, ("karjaa", "a"))
        body = {"subscription": "a", "rev": rev, "card": 1, "offer": data.draw(st.sampled_from(["basic", "loose"]))}
        self.give([self.made("karjaa", "subscription put", **body, ends_at=self.draw_moment(data) if rest else None)])
        self.compare()

    @rule(data=st.data(), altered=st.booleans())
    def resend(self, data: st.DataObject, altered: bool) -> None:
        """A portal that did not hear the answer sends again; one that is mistaken uses an id twice."""
        operator, command, command_id, body = data.draw(st.sampled_from(self.sent_before))
        if altered and "rev" in body:
            body = {**body, "rev": body["rev"] + 1}
        self.give([(operator, command, command_id, body)])
        self.sent_before.pop()
        self.compare()

    def draw_moment(self, data: st.DataObject) -> int | None:
        now = int(self.now)
        period_end, epoch_end = (now // (5 * DAY) + 1) * 5 * DAY, (now // (30 * DAY) + 1) * 30 * DAY
        choices = [None, *(now + ahead for ahead in AHEAD), period_end, period_end + DAY, epoch_end, epoch_end - 1]
        return data.draw(st.sampled_from(choices))

    def next_rev(self, table: dict[Any, Any], key: Any) -> int:
        return table[key].rev + 1 if key in table else 1

    def draw_order(self, data: st.DataObject) -> tuple[str, str, str, dict[str, Any]]:
        operator = data.draw(st.sampled_from(["karjaa", "karjaa", "karjaa", "kaspnet"]))
        command = data.draw(st.sampled_from(COMMANDS))
        late = data.draw(st.sampled_from([0, 0, 0, 0, 0, -1, 3]))
        card = data.draw(st.sampled_from(ADDRESSES))
        body: dict[str, Any] = {}
        if command == "offer put":
            slug = data.draw(st.sampled_from(list(OFFERS)))
            products = data.draw(st.lists(st.sampled_from(list(PRODUCTS)), min_size=1, unique=True))
            rev = max(0, self.next_rev(self.model.offers, (operator, slug)) + late)
            body = {"offer": slug, "rev": rev, "products": products, "terms": OFFERS[slug], "kind": "channel"}
            return self.made(operator, command, names={"fi": slug}, **body)
        if command.startswith("subscription"):
            name = data.draw(st.sampled_from("abc"))
            body = {"subscription": name, "rev": max(0, self.next_rev(self.model.services, (operator, name)) + late)}
            body["authority"] = data.draw(st.sampled_from(["customer", "customer-service"]))
            if command == "subscription end":
                return self.made(operator, command, **body, at=self.draw_moment(data))
            starts, ends = self.draw_moment(data), self.draw_moment(data)
            if starts is not None and ends is not None and ends <= starts:
                ends = None
            offer = data.draw(st.sampled_from(list(OFFERS)))
            return self.made(operator, command, **body, card=card, offer=offer, starts_at=starts, ends_at=ends)
        body = {"card": card}
        if command != "card refresh":
            body["rev"] = max(0, self.next_rev(self.model.cards, card) + late)
        if command == "card assign":
            body["subscriber"] = data.draw(st.sampled_from(["home-0", "home-1"]))
        if command == "card reopen":
            body["until"] = self.draw_moment(data)
        if command == "card report":
            body["condition"] = data.draw(st.sampled_from(["lost", "stolen", "defective"]))
        if command == "card replace":
            body["replacement"] = data.draw(st.sampled_from([one for one in ADDRESSES if one != card]))
        return self.made(operator, command, **body)

    # Time

    @rule(seconds=st.sampled_from([1, 59, 3600, 6 * 3600, DAY, 3 * DAY, 5 * DAY, 17 * DAY, 31 * DAY, 71 * DAY]))
    def leap(self, seconds: int) -> None:
        """Time passes; the daemon is there, but nobody listens."""
        self.clock.leap(seconds)
        self.wake()

    @rule(data=st.data(), off=st.sampled_from([-2, 0, 1]))
    def leap_to_an_edge(self, data: st.DataObject, off: int) -> None:
        """To the moment at which something begins or ends, by the calendar, by a subscription, or by the wall clock."""
        now = self.clock.now()
        moments = {(now // size + number) * size for size in (5 * DAY, 30 * DAY) for number in (1, 2)}
        moments |= {edge for one in self.model.services.values() for edge in (one.start, one.end or 0)}
        moments |= {card.open_until or 0 for card in self.model.cards.values()}
        ahead = sorted(moment for moment in moments if now - off < moment <= now + 80 * DAY)
        self.clock.leap(max(0.0, data.draw(st.sampled_from(ahead)) + off - now))
        self.wake()

    def wake(self) -> None:
        self.air.do_due()
        self.air.guard()
        self.compare()

    @rule(seconds=st.sampled_from([-400 * DAY, -DAY, -3700, -500, -1, 1, 500, 3700, DAY, 400 * DAY]))
    def jump(self, seconds: int) -> None:
        """The machine's wall clock is set: a little is followed, much is not believed, and nothing goes back."""
        was_right = abs(self.clock.wall - self.clock.now()) < 1
        before = self.clock.now()
        self.clock.jump(seconds)
        if was_right:
            expected = max(before, before + seconds) if abs(seconds) <= 600 else before
            assert abs(self.clock.now() - expected) < 1
        self.wake()

    @rule()
    def believe(self) -> None:
        """The operator says that the machine's clock is right."""
        if self.clock.wall < self.clock.now() + 100 * DAY:
            self.clock.believe()
            self.wake()

    # The daemon, the multiplexers, the receivers

    @rule()
    def crash(self) -> None:
        head = self.air.store.head
        self.air.crash()
        self.air.start()
        assert (self.air.store.head.seq, self.air.store.warnings) == (head.seq, []), "I1"
        self.compare()

    @rule(down_s=st.sampled_from([0, 1, 3600, DAY, 20 * DAY, 59 * DAY, 90 * DAY]))
    def restart(self, down_s: int) -> None:
        self.air.stop()
        self.clock.leap(down_s)
        self.air.start()
        assert self.air.store.warnings == []
        self.compare()

    @rule(name=st.sampled_from(MUXES))
    def cut_or_mend(self, name: str) -> None:
        if self.air.up[name]:
            self.air.cut(name)
        else:
            self.air.mend(name)

    @rule(address=st.sampled_from([1, 2, 3, 4, 1000]))
    def switch_receiver(self, address: int) -> None:
        self.receivers[address].on = not self.receivers[address].on

    @precondition(lambda self: self.image is None)
    @rule()
    def back_up(self) -> None:
        self.image, self.image_at = (self.folder / "image", deepcopy(self.model)), self.now
        self.air.publish()
        shutil.rmtree(self.image[0], ignore_errors=True)
        self.air.copy_to(self.image[0])

    # Who puts a backup back looks at the machine's clock first: the copy knows nothing of the time since.
    @precondition(
        lambda self: self.image is not None and self.now > self.image_at + 60 and abs(self.clock.wall - self.now) < 1
    )
    @rule()
    def put_back(self) -> None:
        """An older copy of the ledger comes in place of it: orders since are lost, versions are not (I3)."""
        assert self.image is not None
        path, model = self.image
        self.air.put_back(path)
        self.image, self.model, self.was_put_back = None, model, True
        self.contents.clear()
        self.air.start()
        if self.clock.suspect:
            # So old a copy makes the machine's clock look wrong: the daemon says so, and the operator knows better.
            self.clock.believe()
        self.wake()

    @rule()
    def cycle(self) -> None:
        """Everybody who is switched on hears his EMM once."""
        self.air.cycle()
        for multiplex, sections in self.air.heard.items():
            while sections:
                self.hear(multiplex, sections.popleft())
        self.compare()

    def hear(self, multiplex: str, section: bytes) -> None:
        address, version, part = int.from_bytes(section[3:8], "big"), version_of(section), section[16] >> 4
        newest, parts = self.on_stream.get((multiplex, address), ((0, 0), {}))
        assert version >= newest, f"card {address} was sent {version} after {newest} (I3)"
        parts = parts if version == newest else {}
        assert parts.setdefault(part, section) == section, f"{version} of card {address} came with two contents (I3)"
        self.on_stream[multiplex, address] = version, parts
        receiver = self.receivers.get(address)
        if receiver is not None and receiver.on and receiver.multiplex == multiplex:
            receiver.session.process_emm(section)
            receiver.heard = Heard(version, self.contents[address, version[1]])

    # Comparing

    def compare(self) -> None:
        before, self.now = self.now, self.clock.now()
        assert self.now >= before
        self.model.pass_time(self.now)
        self.compare_ledger()
        assert {self.air.roster.address(slot) for slot in range(len(self.air.roster))} == self.model.cards.keys()
        for address in self.model.cards:
            self.compare_emm(address)
        for receiver in self.receivers.values():
            for product in PRODUCTS:
                held = receiver.heard
                expected = held is not None and opens(held.content, held.version[0], product, int(self.now))
                opened = receiver.opens(product, int(self.now))
                assert opened == expected, f"card {receiver.address} and {product}: {opened}, it holds {held}"

    def compare_ledger(self) -> None:
        for address in ADDRESSES:
            view = self.air.store.read(lambda held, a=address: reading.card_view(held, a, GRANTS, self.now))
            card = self.model.cards.get(address)
            assert (view is None) == (card is None)
            if view is None or card is None:
                continue
            found = (view.operator, view.state, view.subscriber, view.rev, view.open_until)
            assert found == (card.operator, card.state, card.subscriber, card.rev, card.open_until)
            services = {
                one.subscription: (one.rev, one.offer, one.starts_at, one.ends_at, one.minimum_until, one.protected)
                for one in view.subscriptions
            }
            assert services == {
                name: (one.rev, one.offer, one.start, one.end, one.minimum, one.protected)
                for (operator, name), one in self.model.services.items()
                if operator == card.operator and one.card == address
            }

    def compare_emm(self, address: int) -> None:
        """The EMM says what the model says at every moment from now on, and its version rises when it changes."""
        sections = self.air.sections(address)
        assert sections is not None
        version = version_of(sections[0])
        assert version[0] == int(self.now) // (5 * DAY)
        before, said = self.told.get(address, ((0, 0), ()))
        assert version >= before, f"the version of card {address} fell from {before} to {version} (I3)"
        assert version > before or sections == said, f"card {address} has two contents under {version} (I3)"
        self.told[address] = version, sections
        content = self.contents[address, version[1]] = self.model.content(address)
        blocks = [block for section in sections for block in read_blocks(section)]
        moments = edges(content, version[0])
        for product, number in PRODUCTS.items():
            for moment in moments:
                if moment >= int(self.now):
                    expected = opens(content, version[0], product, moment)
                    found = any(block.opens(number, moment) for block in blocks)
                    assert found == expected, f"card {address}, {product} at {moment}: {found}, model {content}"
            if any(number in block.products for block in blocks):
                assert any(opens(content, version[0], product, moment) for moment in moments), "no right, no key (D5)"

    def compare_published(self) -> None:
        """Events are told once; facts are numbered without a gap, and what starts ends before it starts again."""
        aired: Counter[tuple[str, str, str]] = Counter()
        facts: dict[str, list[dict[str, Any]]] = {}
        for message in self.air.published.values():
            said = json.loads(message.payload)
            if message.topic.endswith("/evt/card/on-air"):
                aired[said["card"], said["command"], said["multiplex"]] += 1
            elif "/evt/invoice/" in message.topic:
                facts.setdefault(message.operator, []).append(said)
        assert not aired or max(aired.values()) == 1
        if self.was_put_back:
            return
        for told in facts.values():
            told.sort(key=lambda one: one["number"])
            assert [one["number"] for one in told] == list(range(1, len(told) + 1))
            running: set[str] = set()
            for one in told:
                if one["fact"] == "service-started":
                    assert one["subscription"] not in running
                    running.add(one["subscription"])
                elif one["fact"] == "service-ended":
                    running.remove(one["subscription"])


@dataclass(frozen=True)
class Block:
    """A RIGHTS block as docs/emm.md spells it, its keys verified."""

    start: int
    end: int
    first_epoch: int
    key_count: int
    products: tuple[int, ...]

    def opens(self, product: int, at: int) -> bool:
        epoch = at // (30 * DAY)
        in_time = self.start <= at < self.end and self.first_epoch <= epoch < self.first_epoch + self.key_count
        return product in self.products and in_time


def version_of(section: bytes) -> tuple[int, int]:
    return struct.unpack_from(">HI", section, 10)


def read_blocks(section: bytes) -> list[Block]:
    plain = reference.open_unique_emm(MASTER, section)
    state, count = plain[0], plain[1]
    at, found = 2, []
    for _ in range(count):
        tag, size = plain[at], plain[at + 1]
        value = plain[at + 2 : at + 2 + size]
        at += 2 + size
        if tag != 1:
            continue
        start, end, first, keys = struct.unpack_from(">IIHB", value)
        products = []
        for place in range(11, size, 2 + 16 * keys):
            (product,) = struct.unpack_from(">H", value, place)
            for number in range(keys):
                key = value[place + 2 + 16 * number : place + 18 + 16 * number]
                assert key == reference.product_key(MASTER, product, first + number)
            products.append(product)
        found.append(Block(start, end, first, keys, tuple(products)))
    assert not (state == 1 and found), "a suspended card is told nothing else"
    return found


def spelt(operator: str, command: str, command_id: str, body: dict[str, Any]) -> Any:
    """The order as the intake hands it over."""
    said = dict(body)
    for name in ("starts_at", "ends_at", "at", "until"):
        if said.get(name) is not None:
            said[name] = spell_moment(said[name])
    if "replacement" in said:
        said["replacement"] = card_number.spell(said["replacement"])
    return order(operator, *command.split(), command_id, **said)


TestWholeHeadend = WholeHeadend.TestCase
TestWholeHeadend.settings = settings(
    max_examples=LIVES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # A life is short enough to be read as it is; making it shorter would take minutes.
    phases=[Phase.reuse, Phase.generate],
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
