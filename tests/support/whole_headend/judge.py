"""Compares the headend with the model, down to what software cards show that have heard it."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from cad.ledger.look import reading
from cad.ledger.tables import messages
from tests.support import reference_formats as reference
from tests.support.emm_reading import (
    GLOBAL,
    GROUP,
    NOTICE_FORMAT,
    UNIQUE,
    EmmName,
    Header,
    Said,
    read_emm,
    read_header,
    read_notice,
)
from tests.support.hand_air import CYCLE_MAX_S, MASTER, HandAir
from tests.support.headend_model import messages as model_messages
from tests.support.headend_model.content import PERIOD, Content, edges, opens
from tests.support.headend_model.headend import HeadendModel
from tests.support.headend_model.offers import running
from tests.support.headend_model.state import Message, Notice, Text
from tests.support.whole_headend.network import ADDRESSES, OPENED_BY
from tests.support.whole_headend.receiver import Receiver
from tests.support.whole_headend.scrambler import Scrambler

POSITIONS = ["random", "top-left", "top-right", "centre", "bottom-left", "bottom-right"]


class Told(NamedTuple):
    """What the EMM of a card was when it was last looked at."""

    version: tuple[int, int]
    sections: tuple[bytes, ...]
    said: Said


class Judge:
    """`compare` after each step, `hear` what a cycle has sent, `compare_published` at the end of a life.

    `told`: the newest EMM of each card. `contents`: what the model said under a revision. `numbers`: the headend's
    number of what has one in the model, a notice or (with its card) a PIN reset; `notices` the other way round.
    """

    def __init__(self, air: HandAir, scrambler: Scrambler, receivers: Mapping[int, Receiver]) -> None:
        self.air, self.scrambler, self.receivers = air, scrambler, receivers
        self.told: dict[int, Told] = {}
        self.contents: dict[tuple[int, int], Content] = {}
        self.on_stream: dict[tuple[str, EmmName], tuple[tuple[int, int], dict[int, bytes]]] = {}
        self.numbers: dict[int, int] = {}
        self.notices: dict[int, tuple[tuple[str, str], Notice]] = {}
        self.read: set[tuple[int, int]] = set()

    def compare(self, model: HeadendModel) -> None:
        """Ledger, EMMs and what every card shows are what the model says, now and as far as they tell of later."""
        now = self.air.clock.now()
        for address in ADDRESSES:
            self.compare_card(model, address, now)
        self.compare_events(model, now)
        self.compare_messages(model, now)
        assert self.addresses() == model.cards.keys()
        for address in model.cards:
            self.compare_emm(model, address, int(now))
        self.compare_pictures(model, int(now))
        for receiver in self.receivers.values():
            self.compare_mailbox(receiver)

    def compare_versions(self) -> None:
        """The same where cards are half way: one version has one content."""
        for address in self.addresses() & self.told.keys():
            self.check_version(address)

    def addresses(self) -> set[int]:
        """The cards that are on the air."""
        return {self.air.roster.address(slot) for slot in range(len(self.air.roster))}

    # The ledger

    def compare_card(self, model: HeadendModel, address: int, now: float) -> None:
        view = self.air.store.read(lambda held: reading.card_view(held, address, self.air.grants, now))
        card = model.cards.get(address)
        assert (view is None) == (card is None)
        if view is None or card is None:
            return
        found = (view.operator, view.state, view.subscriber, view.rev, view.open_until)
        assert found == (card.operator, card.state, card.subscriber, card.rev, card.open_until)
        services = {
            one.subscription: (one.rev, one.offer, one.starts_at, one.ends_at, one.minimum_until, one.protected)
            for one in view.subscriptions
        }
        mine = {
            name: one
            for (operator, name), one in model.services.items()
            if operator == card.operator and one.card == address
        }
        assert services == {
            name: (one.rev, one.offer, one.start, one.end, one.minimum, one.protected) for name, one in mine.items()
        }
        choices = {one.subscription: one.choice and frozenset(one.choice) for one in view.subscriptions}
        assert choices == {name: one.choice for name, one in mine.items()}

    def compare_events(self, model: HeadendModel, now: float) -> None:
        """What the ECMG is told of events; each of their keys is that of one event for ever."""
        found = {(one.operator, one.offer): one for one in self.scrambler.events()}
        windows = {key: (one.service, one.starts_at, one.ends_at, one.product_id) for key, one in found.items()}
        events = {key: one.event for key, one in model.offers.items() if one.event is not None and one.event.end > now}
        assert windows == {key: (one.service, one.start, one.end, one.number) for key, one in events.items()}

    def compare_messages(self, model: HeadendModel, now: float) -> None:
        rows = self.air.store.read(lambda held: messages.active(held, list(model.operators), now))
        lasting = {key: one for key, one in model.messages.items() if one.lasts(now)}
        assert {(row.operator, row.message) for row in rows} == lasting.keys()
        for row in rows:
            key = row.operator, row.message
            one = lasting[key]
            assert (row.starts_at, row.ends_at, row.content) == (one.notice.start, one.notice.end, spell(one.notice))
            assert (row.cards and {*row.cards}) == (one.to.cards and {*one.to.cards})
            assert (row.offer_id is None, row.region) == (one.to.offer is None, one.to.region)
            self.note_number(one.notice.number, row.number)
            if row.number not in self.notices:
                assert row.number > max(self.notices, default=0), "a new notice has a higher number"
            assert self.notices.setdefault(row.number, (key, one.notice)) == (key, one.notice), "a number, two notices"

    def note_number(self, ours: int, theirs: int) -> None:
        """What a card takes once has one number."""
        assert self.numbers.setdefault(ours, theirs) == theirs, f"number {theirs} was {self.numbers[ours]} before"

    # EMMs

    def compare_emm(self, model: HeadendModel, address: int, now: int) -> None:
        """The EMM says what the model says at every moment from now on."""
        before = self.told[address].version if address in self.told else (0, 0)
        version, _, read = self.check_version(address)
        assert version[0] == now // PERIOD
        content = self.contents[address, version[1]] = model.content(address)
        setup = (read.suspended, read.receiver, read.region, read.level)
        assert setup == (content.windows is None, content.receiver, content.region, content.level)
        self.compare_reset(address, read.pin_reset, content.pin_reset, before[1], version[1])
        moments = edges(content, version[0])
        said = {product for block in read.rights for product in block.products}
        for product in said | {*(content.windows or ())}:
            opened = {moment for moment in moments if opens(content, version[0], product, moment)}
            for moment in moments:
                found, expected = read.opens(product, moment), moment in opened
                assert moment < now or found == expected, f"{address}, {product} at {moment}: {found}, model {content}"
            assert opened or product not in said, "no right, no key (D5)"

    def check_version(self, address: int) -> Told:
        """A card's EMM: its version rises when it changes, whatever the headend has been through."""
        sections = self.air.sections(address)
        assert sections is not None
        version, told = read_header(sections[0]).version, self.told.get(address)
        if told is not None:
            assert version >= told.version, f"the version of card {address} fell from {told.version} to {version} (I3)"
            same = version > told.version or sections == told.sections
            assert same, f"card {address} has two contents under {version} (I3)"
        if told is None or sections != told.sections:
            self.told[address] = Told(version, sections, read_emm(MASTER, sections))
        return self.told[address]

    def compare_reset(self, address: int, found: int, expected: int, before: int, revision: int) -> None:
        """A PIN reset has the revision under which it was ordered for its mark."""
        assert (found == 0) == (expected == 0), f"card {address}: PIN reset {found}, model {expected}"
        if expected and expected not in self.numbers:
            assert before < found <= revision, f"card {address}: reset {found}, revisions {before} to {revision}"
        if expected:
            self.note_number(expected, found)

    # What cards show

    def compare_pictures(self, model: HeadendModel, now: int) -> None:
        """Every service, in every receiver."""
        blackout = self.scrambler.blackout
        for service, ecm in self.scrambler.ecms().items():
            products = sorted([OPENED_BY[service], *running(model, service, now)])
            regions = blackout.holds_in(service, now) if blackout is not None else []
            assert (ecm.products, ecm.regions) == (products, regions)
            for receiver in self.receivers.values():
                expected = receiver.heard.shows(products, now, regions, receiver.number)
                shown = receiver.shows(ecm)
                assert shown == expected, f"card {receiver.address}, {service}: {shown}, it holds {receiver.heard}"

    def compare_mailbox(self, receiver: Receiver) -> None:
        heard = receiver.heard
        letters = [
            (self.numbers[one.notice.number], one.done, one.forced, one.fingerprint, one.due(heard.time))
            for one in heard.letters
        ]
        assert receiver.letters() == letters, f"card {receiver.address}: {receiver.letters()}, model {letters}"
        for letter, (number, *_) in zip(heard.letters, letters, strict=True):
            if (receiver.address, number) not in self.read:
                assert receiver.says(number, letter)
                self.read.add((receiver.address, number))

    def compare_memory(self, receiver: Receiver) -> None:
        """What the card tells of itself after it has heard what is on the air."""
        heard, info = receiver.heard, receiver.session.read_info()
        content = heard.content or Content(None)
        assert (info.receiver, info.region) == (content.receiver, content.region)
        mark = self.numbers[heard.pin_reset] if heard.pin_reset else 0
        access = (info.access.parental, info.access.tries_left, info.access.pin_reset)
        assert access == (content.level, heard.tries, mark)

    # The air

    def wanted(self, model: HeadendModel) -> set[EmmName]:
        """The EMMs of notices that a cycle which begins now must bring, whenever it ends."""
        now = self.air.clock.now()
        found: set[EmmName] = set()
        for (operator, name), one in model.messages.items():
            if one.withdrawn or not one.notice.start <= now < one.notice.end - CYCLE_MAX_S:
                continue
            number = self.numbers[one.notice.number]
            if one.to.everyone:
                found.add((GLOBAL, 0, number))
                continue
            shown = [model_messages.shown_to(model, operator, name, at) for at in (now, now + CYCLE_MAX_S)]
            for card in shown[0] & shown[1]:
                found.add((UNIQUE, card, number) if one.to.cards is not None else (GROUP, card >> 8, number))
        return found

    def hear(self, model: HeadendModel) -> None:
        """Every receiver that is switched on hears what came on its multiplex."""
        for multiplex, sections in self.air.heard.items():
            while sections:
                at, section = sections.popleft()
                header = read_header(section)
                self.note_section(multiplex, header, section)
                if header.format == NOTICE_FORMAT:
                    self.hear_notice(model, multiplex, header, section, at)
                else:
                    self.hear_emm(multiplex, header, section)
        for receiver in self.receivers.values():
            self.compare_memory(receiver)

    def note_section(self, multiplex: str, header: Header, section: bytes) -> None:
        """On a stream versions only rise, and what has one version is the same bytes (I3), but for whom a notice is."""
        newest, parts = self.on_stream.get((multiplex, header.emm), ((0, 0), {}))
        assert header.version >= newest, f"{header} was sent after {newest} (I3)"
        parts = parts if header.version == newest else {}
        same = parts.setdefault(header.part, section) == section
        assert same or header.table_id == GROUP, f"{header} came with two contents (I3)"
        self.on_stream[multiplex, header.emm] = header.version, parts

    def hear_emm(self, multiplex: str, header: Header, section: bytes) -> None:
        receiver = self.receivers.get(header.address)
        if receiver is not None and receiver.on and receiver.multiplex == multiplex:
            receiver.session.process_emm(section)
            content = self.contents[header.address, header.revision]
            receiver.heard.hear_emm(header.version, header.part, header.last, content)

    def hear_notice(self, model: HeadendModel, multiplex: str, header: Header, section: bytes, at: int) -> None:
        """A notice is on the air in its time, for those whom it is for, and says what it should."""
        part = read_notice(MASTER, section)
        (operator, name), notice = self.notices[header.revision]
        message: Message = model.messages[operator, name]
        assert message.notice == notice
        assert not message.withdrawn
        # Within this second it may have been sent before a moment that came at its end.
        assert notice.start <= at
        assert at - 1 < notice.end
        shown = [model_messages.shown_to(model, operator, name, moment) for moment in (at - 1, at)]
        if header.table_id == GROUP:
            shown = [{card for card in cards if card >> 8 == header.address} for cards in shown]
        elif header.table_id == UNIQUE:
            shown = [cards & {header.address} for cards in shown]
        assert part.cards in shown, f"{name} of {operator} at {at} is for {part.cards}, not {shown}"
        assert part.piece in spell(notice)
        for receiver in self.receivers.values():
            if receiver.on and receiver.multiplex == multiplex and receiver.is_meant(header):
                receiver.session.process_emm(section)
                if receiver.address in part.cards:
                    receiver.heard.hear_notice(notice, header.part, header.last)

    # What portals were told

    def compare_published(self, model: HeadendModel, was_put_back: bool) -> None:
        """Events are told once; facts are numbered without a gap, and what starts ends before it starts again."""
        aired: Counter[tuple[str, ...]] = Counter()
        facts: dict[str, list[dict[str, Any]]] = {}
        for message in self.air.published.values():
            said = json.loads(message.payload)
            if message.topic.endswith("/evt/card/on-air"):
                aired[said["card"], said["command"], said["multiplex"]] += 1
            elif message.topic.endswith("/evt/message/on-air"):
                aired[message.operator, said["message"], str(said["rev"])] += 1
            elif "/evt/invoice/" in message.topic:
                facts.setdefault(message.operator, []).append(said)
        assert not aired or max(aired.values()) == 1
        if was_put_back:
            return
        for operator, told in facts.items():
            told.sort(key=lambda one: one["number"])
            assert [one["number"] for one in told] == list(range(1, len(told) + 1))
            bought = [one for one in told if one["fact"] == "programme-bought"]
            sold = [(operator, one["subscription"], one["offer"]) for one in bought]
            assert sold == [one for one in model.bought if one[0] == operator]
            check_runs(told)


def check_runs(told: list[dict[str, Any]]) -> None:
    """What starts ends before it starts again; an event that was bought may be ended early, once."""
    running: set[tuple[str, str]] = set()
    for one in told:
        name = one["subscription"], one["offer"]
        if one["fact"] == "service-started":
            assert name not in running
            running.add(name)
        elif one["fact"] == "programme-bought":
            running.add(name)
        elif one["fact"] == "service-ended":
            running.remove(name)


def spell(notice: Notice) -> bytes:
    """The content of a notice as docs/notices.md spells it."""
    says = notice.says
    if isinstance(says, Text):
        return reference.message_content(says.forced, notice.start, notice.end, dict(says.texts))
    position = POSITIONS.index(says.position)
    return reference.fingerprint_content(notice.start, notice.end, says.duration_s, says.service, position)
