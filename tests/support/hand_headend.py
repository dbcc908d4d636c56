"""A headend by hand: ledger on disk, roster, sealed EMMs, software cards, all under one clock that the test moves."""

import contextlib
import json
import os
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from cad.air.notices import emms_to_cards, emms_to_ranges
from cad.air.roster import Roster
from cad.demo.receiver import card_filters
from cad.ledger.look import reading
from cad.ledger.look.views import CardView
from cad.ledger.model import CardChange, EventGrant, Grants, OperatorGrant
from cad.ledger.tables import messages
from cards.errors import CardRefusedError, PairedError
from cards.memory.contents import CardKeys
from cards.session import CardSession
from cards.software_card import SoftwareCard
from emm.calendar import Calendar
from emm.ecm import EcmHeader, EcmSealer, Parity
from emm.keys import KeyLadder, LocalMasterKey
from emm.notices.content import Message
from emm.notices.seal import NoticeSealer
from emm.pairing import ReceiverIdentity
from emm.seal import EmmSealer
from protocol import card_number, receiver_number
from tests.support.ledgers import open_store, order

HELSINKI = ZoneInfo("Europe/Helsinki")
PRODUCTS = {"basic": 1, "sport": 2, "film": 3, "news": 4}
EVENTS = EventGrant(frozenset({"cinema"}), range(40_000, 40_003), 2, Calendar(), frozenset({"karjaa", "kaspnet"}))
REGIONS = {"coast": 7, "inland": 8}
GRANTS = Grants(
    {
        "karjaa": OperatorGrant(
            "south", PRODUCTS, ((0, 999),), ("mux-1",), "Europe/Helsinki", EVENTS, {"news": 101}, REGIONS
        ),
        "kaspnet": OperatorGrant(
            "south", {"sport": 2}, ((1000, 1999),), ("mux-1",), "Europe/Helsinki", EVENTS, regions=REGIONS
        ),
    }
)
NUMBERS = tuple(card_number.spell(address) for address in range(10))


def at(text: str) -> int:
    """Unix seconds of a time on the wall in Helsinki, `2026-03-29 02:30`; of one that comes twice the first."""
    return int(datetime.fromisoformat(text).replace(tzinfo=HELSINKI).timestamp())


def on_the_wall(moment: str | int) -> str:
    """The same the other way round."""
    seconds = moment if isinstance(moment, int) else int(datetime.fromisoformat(moment).timestamp())
    return datetime.fromtimestamp(seconds, HELSINKI).strftime("%Y-%m-%d %H:%M")


class HandHeadend:
    """Takes orders of `karjaa`, moves time, restarts. What the ledger says is carried to the cards by `Viewer.hear`."""

    def __init__(self, folder: Path, now: int, roll_at_once: int = 250) -> None:
        self.folder = folder
        self.roll_at_once = roll_at_once
        self.now = now
        self.calendar = Calendar()
        self.ladder = KeyLadder(LocalMasterKey(bytes(range(32))))
        self.sealer = EmmSealer(self.ladder)
        self.replies: list[dict[str, Any]] = []
        self.published: list[tuple[str, str, dict[str, Any]]] = []
        self._revs = count(1)
        self._ids = count(1)
        self._open()

    def _open(self) -> None:
        self.store = open_store(self.folder / "ledger", grants=GRANTS, now=self.now, roll_at_once=self.roll_at_once)
        self.roster = Roster()
        self.roster.load(
            self.store.read(lambda held: reading.card_block(held, ["karjaa"], -1)),
            self.store.read(
                lambda held: reading.right_block(
                    held, ["karjaa"], -1, 10**11, reading.Products(held, GRANTS), float(self.now)
                )
            ),
        )

    def close(self) -> None:
        """End politely."""
        self._collect()
        self.store.close()

    def crash(self) -> None:
        """End as by kill -9, and start again: what was not published yet is in the outbox."""
        self.store.database.close()
        self._open()
        self.store.outgoing.extend(self.store.read(lambda held: reading.pending(held, 0, 10_000)))

    def sleep_until(self, moment: int) -> None:
        """Be down until then."""
        self.close()
        self.now = moment
        self._open()

    def order(self, command: str, operator: str = "karjaa", **body: Any) -> dict[str, Any]:
        """Send `resource verb` with a fresh id and, where it has one, a rising rev; return the reply."""
        resource, verb = command.split()
        if verb not in ("refresh", "replay"):
            body.setdefault("rev", next(self._revs))
        for name in ("card", "replacement"):
            if isinstance(body.get(name), int):
                body[name] = card_number.spell(body[name])
        if "card" in body:
            body["card"] = card_number.parse(body["card"])
        made = order(operator, resource, verb, f"c-{next(self._ids)}", **body)
        (outcome,) = self.store.commit([made], float(self.now), {})
        self._follow(outcome.closed)
        self._follow(outcome.card_changes)
        self._collect()
        assert outcome.reply is not None
        return dict(json.loads(outcome.reply.model_dump_json()))

    def done(self, command: str, **body: Any) -> dict[str, Any]:
        """Send a command that must be committed."""
        reply = self.order(command, **body)
        assert reply["code"] == "ok", reply
        return reply

    def go_to(self, moment: int) -> None:
        """Move the clock on, and let the daemon do what is due."""
        self.now = moment
        more = True
        while more:
            closed, more = self.store.due(float(self.now))
            self._follow(closed)
        while self.store.rollouts:
            self._follow(self.store.roll_out(float(self.now)).changes)
        self._collect()

    def facts(self, number: str | None = None) -> list[tuple[str, str]]:
        """What was told for the invoice so far, of one card or all: (fact, time on the wall), in order."""
        return [(one["fact"], on_the_wall(one["at"])) for one in self.invoice(number)]

    def invoice(self, number: str | None = None) -> list[dict[str, Any]]:
        """The same in full; one that was published twice counts once, as at the portal."""
        seen: dict[str, dict[str, Any]] = {}
        for topic, event_id, payload in self.published:
            if "/evt/invoice/" in topic:
                assert seen.setdefault(event_id, payload) == payload
        return [one for one in seen.values() if number in (None, one["card"])]

    def view(self, number: str) -> CardView:
        """What the ledger knows of a card."""
        address = card_number.parse(number)
        found = self.store.read(lambda held: reading.card_view(held, address, GRANTS, float(self.now)))
        assert found is not None
        return found

    def notices(self) -> list[bytes]:
        """The sections of all messages and fingerprints that are on the air now, of both operators."""
        now = float(self.now)
        sealer = NoticeSealer(self.ladder)
        sections: list[bytes] = []
        for one in self.store.read(lambda held: messages.active(held, list(GRANTS.operators), now)):
            if not one.starts_at <= now < one.ends_at:
                continue
            if one.everyone:
                emms = emms_to_ranges(one, GRANTS.operators[one.operator].ranges, [1], sealer)
            else:
                emms = list(emms_to_cards(one, self._recipients(one), sealer))
            sections += [section for emm in emms for section in emm]
        return sections

    def _recipients(self, one: messages.OnAirMessage) -> list[tuple[int, int]]:
        if one.cards is not None:
            return self.store.read(lambda held: messages.named(held, one))
        found = self.store.read(lambda held: messages.next_cards(held, one, float(self.now), -1, 10_000))
        return messages.cards_of([found])

    def card(self, number: str, receiver: int = 1) -> "Viewer":
        """A card in the receiver with that serial."""
        return Viewer(self, card_number.parse(number), receiver)

    def _follow(self, changes: Sequence[CardChange]) -> None:
        for change in changes:
            self.roster.apply(change)

    def _collect(self) -> None:
        while self.store.outgoing:
            message = self.store.outgoing.popleft()
            self.published.append((message.topic, message.event_id, json.loads(message.payload)))


class Viewer:
    """A software card in a receiver. It hears what is on the air for it only when it is told to."""

    def __init__(self, headend: HandHeadend, address: int, receiver: int = 1) -> None:
        self.headend = headend
        self.address = address
        path = headend.folder / f"card-{address}-{os.urandom(4).hex()}"
        self.card = SoftwareCard.create(path, address, CardKeys.derive(headend.ladder, address))
        self.put_into(receiver)

    def put_into(self, receiver: int) -> "Viewer":
        """Put the card into the receiver with that serial."""
        number = receiver_number.of_serial(receiver)
        identity = ReceiverIdentity(number, self.headend.ladder.pairing_key(number))
        self.receiver = receiver_number.spell(number)
        self.session = CardSession(self.card.process, receiver=identity)
        return self

    def hear(self) -> "Viewer":
        """Hear the EMM that the carousel sends for this card now."""
        headend = self.headend
        slot = headend.roster.slot_of(self.address)
        if slot is not None:
            period = headend.calendar.period(float(headend.now))
            for section in headend.roster.seal(slot, period, headend.calendar, headend.sealer):
                self.session.process_emm(section)
        return self

    def opened(self, moment: int | None = None) -> list[str]:
        """Return the products of which it opens services, as `opens` does."""
        return sorted(product for product in PRODUCTS if self.opens(product, moment))

    def hear_notices(self) -> "Viewer":
        """Hear the messages that are on the air now, as far as its receiver's filters let them through."""
        filters = card_filters(self.address)
        for section in self.headend.notices():
            if any(one.passes(section) for one in filters):
                with contextlib.suppress(CardRefusedError):
                    self.session.process_emm(section)
        return self

    def letters(self) -> list[str]:
        """What lies in its mailbox, in the first language: messages by their text, fingerprints as `fingerprint`."""
        notices = [self.session.letter(held.number) for held in self.session.mailbox()]
        return [one.texts[0][1] if isinstance(one, Message) else "fingerprint" for one in notices]

    def opens(self, product: str, moment: int | None = None) -> bool:
        """Whether it opens a service of that product at a time (the headend's, unless said), with what it has heard."""
        when = self.headend.now if moment is None else moment
        header = EcmHeader(Parity.EVEN, when, 101, self.headend.calendar.epoch(when))
        words = [os.urandom(8), os.urandom(8)]
        sealed = EcmSealer(self.headend.ladder).seal(header, [PRODUCTS[product]], words, os.urandom(16))
        try:
            return list(self.session.process_ecm(sealed).words) == words
        except (CardRefusedError, PairedError):
            return False
