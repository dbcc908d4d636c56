"""What the headend does for a technician. Each act is in the audit chain before its answer goes out (C12).

Nothing here gives a right: a card is told what the ledger says, and the ledger is changed by orders alone.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cad.air.on_air import OnAir
from cad.errors import NotFoundError
from cad.frame.clock import Clock, spell
from cad.ledger.ledger import Ledger
from cad.ledger.look.views import CardView
from cad.ledger.model import OPEN_STATES
from cad.technicians import documents as docs
from cad.technicians import visits as visiting
from cad.technicians.errors import ExtractError, NotAllowedError
from cad.technicians.people import Act, Person
from cad.technicians.signing import ExtractSigner
from cards.authentication import CHALLENGE_SIZE, is_proof, proof
from config.settings import NetworkSettings
from config.technicians import TechniciansSettings
from emm.keys import KeyLadder
from emm.message import Version
from emm.plan import plan_card
from emm.seal import EmmSealer
from protocol import card_number, receiver_number

KIND: Final = "technician"
CHALLENGE_LIFE_S: Final = 60.0
CHALLENGES_MAX: Final = 10_000
CHALLENGES_PREPARED: Final = 4
ACTS_SCANNED: Final = 20_000
ACTS_MAX: Final = 500
AT_A_TIME: Final = 50
DAY_S: Final = 86_400

Facts = Mapping[str, Any]


class Desk:
    """Answers one headend's technicians. Raises NotAllowedError, NotFoundError, CardNumberError, LedgerError.

    `random` gives as many unpredictable bytes as asked for.
    """

    def __init__(
        self,
        settings: TechniciansSettings,
        on_air: OnAir,
        ledger: Ledger,
        ladder: KeyLadder,
        clock: Clock,
        random: Callable[[int], bytes],
    ) -> None:
        self.settings = settings
        self._on_air = on_air
        self._ledger = ledger
        self._ladder = ladder
        self._sealer = EmmSealer(ladder)
        self._clock = clock
        self._random = random
        self._signer = ExtractSigner(ladder.extract_key())
        self._open: dict[bytes, tuple[str, int, float]] = {}  # challenge → person, card, when it was drawn

    def me(self, person: Person) -> docs.Me:
        """Who the headend takes somebody for, and the key by which extracts are checked."""
        return docs.Me(
            name=person.name,
            operator=person.operator,
            role=person.role,
            node=self._on_air.settings.node.name,
            now=self._clock.now(),
            extract_key=self._signer.public_key,
        )

    async def card(self, person: Person, number: str, reader: str) -> docs.CardAnswer:
        """What the ledger says of a card, and when its EMM was last sent."""
        view = await self._card(person, Act.LOOK, number, reader)
        await self._note(person, Act.LOOK, number, reader)
        network = self._network(person)
        live = self._on_air.networks.get(network.id)
        aired = view.changes[0].aired if view.changes else {}
        places = () if live is None else live.on_air(view.address, view.operator, aired)
        return docs.CardAnswer(
            now=self._clock.now(),
            card=_card_fact(view),
            network=await self._network_facts(network, view.operator),
            on_air=tuple(
                docs.OnAir(
                    multiplex=place.multiplex,
                    connected=place.connected,
                    first_sent_at=_spell(place.first_sent_at),
                    last_sent_at=_spell(place.last_sent_at),
                )
                for place in places
            ),
        )

    async def challenge(self, person: Person, number: str, reader: str) -> docs.ChallengeAnswer:
        """Draw a challenge for one card, good for one answer by this person within a minute."""
        view = await self._card(person, Act.PROVE, number, reader)
        now = self._clock.monotonic()
        self._open = {key: one for key, one in self._open.items() if now - one[2] < CHALLENGE_LIFE_S}
        if len(self._open) >= CHALLENGES_MAX:
            raise NotAllowedError("too many challenges are open; try again in a minute")
        challenge = self._random(CHALLENGE_SIZE)
        self._open[challenge] = (person.name, view.address, now)
        return docs.ChallengeAnswer(challenge=challenge.hex())

    async def prove(self, person: Person, number: str, answer: docs.Proof, reader: str) -> docs.ProofAnswer:
        """Check a card's answer to a challenge drawn before; each challenge is good for one answer."""
        view = await self._card(person, Act.PROVE, number, reader)
        challenge = bytes.fromhex(answer.challenge)
        asked = self._open.pop(challenge, None)
        fresh = (
            asked is not None
            and asked[:2] == (person.name, view.address)
            and self._clock.monotonic() - asked[2] < CHALLENGE_LIFE_S
        )
        if not fresh:
            await self._note(person, Act.PROVE, number, reader, {"refused": "no such challenge"})
            raise NotAllowedError("this challenge was not drawn for this card and person in the last minute; repeat")
        key = self._ladder.card_key(view.address, view.key_version)
        genuine = is_proof(key, view.address, view.key_version, challenge, bytes.fromhex(answer.proof))
        await self._note(person, Act.PROVE, number, reader, {"genuine": genuine})
        return docs.ProofAnswer(genuine=genuine)

    async def emm(self, person: Person, number: str, reader: str) -> docs.EmmAnswer:
        """The card's current EMM: just what is on the air for it."""
        view = await self._card(person, Act.EMM, number, reader)
        answer = self._current_emm(view)
        await self._note(person, Act.EMM, number, reader, {"version": [answer.period, answer.revision]})
        return answer

    async def extract(self, person: Person, request: docs.ExtractRequest) -> docs.SignedExtract:
        """A signed, expiring extract of all cards of the person's operator, or of the ones named."""
        person.need(Act.EXTRACT)
        addresses = await self._wanted(person, request.cards)
        now, serial = int(self._clock.now()), self._random(8).hex()
        facts = {"cards": len(addresses), "serial": serial, "named": request.cards is not None}
        await self._note(person, Act.EXTRACT, None, "", facts)
        cards = []
        for done, address in enumerate(addresses, 1):
            view = await self._ledger.card_view(address)
            if view is not None and view.operator == person.operator:
                cards.append(self._extract_card(view))
            if done % AT_A_TIME == 0:
                await asyncio.sleep(0)
        extract = docs.Extract(
            serial=serial,
            node=self._on_air.settings.node.name,
            operator=person.operator,
            person=person.name,
            made_at=now,
            expires_at=now + self.settings.extract_days * DAY_S,
            network=await self._network_facts(self._network(person), person.operator),
            cards=tuple(cards),
        )
        return await asyncio.to_thread(self._signer.sign, extract)

    async def visits(self, person: Person, sent: docs.Visits) -> docs.VisitsAnswer:
        """Record what was done without network, each thing once, and say where the ledger tells otherwise now."""
        person.need(Act.VISITS)
        known = await self._ledger.perform(visiting.recorder(KIND, _who(person), sent))
        period = self._on_air.calendar.period(self._clock.now())
        answers = []
        for visit in sent.visits:
            view = await self._ledger.card_view(card_number.parse(visit.card))
            mine = view if view is not None and view.operator == person.operator else None
            answers.append(
                docs.VisitAnswer(
                    seq=visit.seq,
                    status="known" if visit.seq <= known else "recorded",
                    conflict=visiting.conflict(visit, mine, period),
                )
            )
        return docs.VisitsAnswer(visits=tuple(answers))

    async def acts(self, person: Person) -> dict[str, Any]:
        """What was done in the field with the cards of the person's operator, newest last."""
        person.need(Act.ACTS)
        await self._note(person, Act.ACTS, None, "")
        head = await self._ledger.audit_head()
        after = max(0, head.seq - ACTS_SCANNED)
        found = [
            record
            async for record, _ in self._ledger.audit_export(after)
            if record.get("kind") == KIND and record.get("operator") == person.operator
        ]
        return {"acts": found[-ACTS_MAX:], "complete": after == 0 and len(found) <= ACTS_MAX}

    async def refused(self, who: str | None, act: str, reason: str) -> None:
        """Put into the audit that somebody asked for what he may not have."""
        await self._ledger.note(KIND, {"who": who, "act": act, "refused": reason})

    async def _card(self, person: Person, act: Act, number: str, reader: str) -> CardView:
        """The card, if it is one of the person's operator: another's is answered like one that does not exist (I10)."""
        person.need(act)
        view = await self._ledger.card_view(card_number.parse(number))
        if view is None or view.operator != person.operator:
            await self._note(person, act, number, reader, {"refused": "unknown"})
            raise NotFoundError(f"card {number} has not been given to a customer of {person.operator}")
        return view

    async def _note(
        self, person: Person, act: Act, number: str | None, reader: str, facts: Facts | None = None
    ) -> None:
        about = {} if number is None else {"card": number, "reader": reader}
        await self._ledger.note(KIND, {**_who(person), "act": act.value, **about, **(facts or {})})

    async def _wanted(self, person: Person, named: Sequence[str] | None) -> list[int]:
        """The addresses to put into an extract. Raises ExtractError for too many, CardNumberError."""
        if named is not None:
            return sorted({card_number.parse(number) for number in named})
        found = await self._ledger.cards_of(person.operator)
        if len(found) > self.settings.extract_cards_max:
            raise ExtractError(
                f"{person.operator} has {len(found)} cards, an extract takes {self.settings.extract_cards_max};"
                " name those that will be visited: cad field fetch --card NUMBER, or --cards FILE"
            )
        return found

    def _extract_card(self, view: CardView) -> docs.ExtractCard:
        key = self._ladder.card_key(view.address, view.key_version)
        challenges = [self._random(CHALLENGE_SIZE) for _ in range(CHALLENGES_PREPARED)]
        return docs.ExtractCard(
            card=_card_fact(view),
            emm=self._current_emm(view),
            challenges=tuple(
                docs.PreparedChallenge(
                    challenge=one.hex(),
                    digest=hashlib.sha256(proof(key, view.address, view.key_version, one)).hexdigest(),
                )
                for one in challenges
            ),
        )

    def _current_emm(self, view: CardView) -> docs.EmmAnswer:
        period = self._on_air.calendar.period(self._clock.now())
        content = plan_card(view.state not in OPEN_STATES, view.rights, period, self._on_air.calendar, view.traits)
        sections = self._sealer.unique(view.address, view.key_version, Version(period, view.revision), content)
        return docs.EmmAnswer(period=period, revision=view.revision, sections=tuple(one.hex() for one in sections))

    def _network(self, person: Person) -> NetworkSettings:
        settings = self._on_air.settings
        wanted = next((one.network for one in settings.operators if one.id == person.operator), None)
        for network in settings.networks:
            if network.id == wanted:
                return network
        raise NotFoundError(f"operator {person.operator} is not in the headend's settings any more")

    async def _network_facts(self, network: NetworkSettings, operator: str) -> docs.Network:
        """Calendar and products of the network, with the operator's events that are not over."""
        calendar, names = self._on_air.calendar, {service.id: service.name for service in network.services}
        events = [event for event in await self._ledger.events() if event.operator == operator]
        return docs.Network(
            calendar=docs.CalendarFact(
                period_days=calendar.period_days,
                epoch_periods=calendar.epoch_periods,
                overlap_periods=calendar.overlap_periods,
            ),
            products=tuple(
                docs.ProductFact(
                    product_id=product.product_id,
                    product=product.id,
                    services=tuple(names[service] for service in product.services),
                )
                for product in network.products
            )
            + tuple(
                docs.ProductFact(
                    product_id=event.product_id,
                    product=f"event {event.offer}",
                    services=(names[event.service],) if event.service in names else (),
                )
                for event in events
            ),
        )


def _spell(at: float | None) -> str | None:
    return None if at is None else spell(at)


def _who(person: Person) -> dict[str, Any]:
    return {"who": person.name, "role": person.role, "operator": person.operator}


def _card_fact(view: CardView) -> docs.CardFact:
    return docs.CardFact(
        number=card_number.spell(view.address),
        state=view.state,
        suspended=view.state not in OPEN_STATES,
        reason=view.reason,
        key_version=view.key_version,
        revision=view.revision,
        changed_at=view.changed_at,
        rights=tuple(docs.RightFact(product_id=one.product_id, start=one.start, end=one.end) for one in view.rights),
        receiver=None if view.traits.receiver is None else receiver_number.spell(view.traits.receiver),
        parental=view.traits.parental,
        pin_reset=view.traits.pin_reset,
        region=view.traits.region,
    )
