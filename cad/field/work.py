"""The technician's work on one card: verify it, write its current EMM into it. Each piece of work is recorded."""

import contextlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from cad.errors import CadError, DaemonUnreachableError, NotFoundError
from cad.field.api import HeadendApi
from cad.field.laptop import Laptop
from cad.field.report import ReportDocument, bare_report, full_report
from cad.field.truth import Headend, Known, TakenAlong, Truth
from cad.frame.clock import Clock
from cad.technicians.documents import Network, VisitsAnswer
from cad.technicians.errors import ExtractError
from cards.errors import CardRefusedError, WrongCardError
from cards.readers.names import card_names
from cards.session import CardInfo, CardSession
from cards.status_word import StatusWord
from cards.verify import Code, Judgement, Ordered, judge
from emm.calendar import Calendar
from emm.message import EmmKind, Version
from emm.plan import Right
from emm.traits import Traits
from protocol import receiver_number

UNKNOWN_COMMAND = (StatusWord.WRONG_INSTRUCTION, StatusWord.WRONG_CLASS)

Result = TypeVar("Result")


class Card(Protocol):
    """The part of `cards.pcsc.Connection` that is used here."""

    reader: str

    def transmit(self, command: bytes) -> bytes: ...

    def atr(self) -> bytes: ...

    def transaction(self) -> contextlib.AbstractContextManager[None]: ...


class FieldWork:
    """Works with the headend where it answers, else with the extract taken along.

    `api` None: never ask the headend. Errors of card and reader go through; DaemonUnreachableError when neither
    headend nor extract can say anything.
    """

    def __init__(self, api: HeadendApi | None, laptop: Laptop, clock: Clock, aid: bytes) -> None:
        self._api = api
        self._laptop = laptop
        self._clock = clock
        self._aid = aid
        self._is_away = False

    def verify(self, card: Card) -> ReportDocument:
        """The verdict on the card, recorded."""
        return self._with_truth(lambda truth: self._verify(card, truth))

    def refresh(self, card: Card) -> ReportDocument:
        """Write the card's current EMM into it, then give the verdict; both recorded."""
        return self._with_truth(lambda truth: self._refresh(card, truth))

    def hand_in(self) -> VisitsAnswer:
        """Send what is recorded. Raises DaemonUnreachableError; nothing is lost by that."""
        if self._api is None:
            return VisitsAnswer(visits=())
        return self._laptop.hand_in(self._api.visits)

    def hand_in_if_possible(self) -> VisitsAnswer | None:
        """Send what is recorded if the headend answers; None when it does not, and all waits.

        Who has just waited for it in vain is not kept waiting again.
        """
        if self._is_away:
            return None
        try:
            return self.hand_in()
        except CadError:
            return None

    def _with_truth(self, work: Callable[[Truth], Result]) -> Result:
        if self._api is None:
            return work(TakenAlong(self._laptop, self._clock.now()))
        self._is_away = False
        try:
            return work(Headend(self._api))
        except DaemonUnreachableError as unreachable:
            self._is_away = True
            try:
                truth = TakenAlong(self._laptop, self._clock.now())
            except ExtractError as error:
                raise DaemonUnreachableError(f"{unreachable}; and {error}") from None
            return work(truth)

    def _verify(self, card: Card, truth: Truth) -> ReportDocument:
        with card.transaction():
            report, held = self._examine(card, truth)
        self._record(truth, report, act="verify", held=held)
        return report

    def _refresh(self, card: Card, truth: Truth) -> ReportDocument:
        with card.transaction():
            session = CardSession(card.transmit, self._aid)
            info = session.read_info()
            emm = truth.emm(info.number, card.reader)
            for section in emm.sections:
                session.process_emm(bytes.fromhex(section))
            report, _ = self._examine(card, truth)
        put = (emm.period, emm.revision)
        self._record(truth, report, act="refresh", held=_pair(info.versions.held[EmmKind.UNIQUE]), put=put)
        return report

    def _examine(self, card: Card, truth: Truth) -> tuple[ReportDocument, tuple[int, int] | None]:
        began = self._clock.monotonic()

        def took() -> float:
            return self._clock.monotonic() - began

        try:
            session = CardSession(card.transmit, self._aid)
        except WrongCardError:
            report = bare_report(Code.WRONG_APPLICATION, card.reader, None, self._clock.now(), took())
            return report.model_copy(update={"known_as": list(card_names(card.atr()))}), None
        info = session.read_info()
        try:
            known = truth.card(info.number, card.reader)
        except NotFoundError:
            if truth.extract is not None:
                raise
            report = bare_report(Code.UNKNOWN_CARD, card.reader, info.number, self._clock.now(), took())
            return report, _pair(info.versions.held[EmmKind.UNIQUE])
        genuine = _prove(truth, info.number, session, card.reader)
        calendar = calendar_of(known.network)
        judgement = _judge(info, known, genuine, calendar)
        made_at = float(truth.extract.made_at) if truth.extract else known.now
        report = full_report(info, known, judgement, genuine, calendar, card.reader, took(), made_at)
        return report, _pair(judgement.held)

    def _record(self, truth: Truth, report: ReportDocument, **facts: Any) -> None:
        if report.number is None:
            return
        self._laptop.record(
            at=int(self._clock.now()),
            card=report.number,
            reader="".join(letter for letter in report.reader if letter.isprintable())[:200],
            verdict=report.verdict.value,
            passed=report.passed,
            extract=truth.extract.serial if truth.extract else None,
            **facts,
        )


def calendar_of(network: Network) -> Calendar:
    """The calendar that the headend told."""
    told = network.calendar
    return Calendar(told.period_days, told.epoch_periods, told.overlap_periods)


def _judge(info: CardInfo, known: Known, genuine: bool | None, calendar: Calendar) -> Judgement:
    fact = known.card
    ordered = Ordered(
        suspended=fact.suspended,
        reason=fact.reason,
        key_version=fact.key_version,
        revision=fact.revision,
        rights=tuple(Right(one.product_id, one.start, one.end) for one in fact.rights),
        changed_at=fact.changed_at,
        live=known.live,
        traits=Traits(
            None if fact.receiver is None else receiver_number.parse(fact.receiver),
            parental=fact.parental,
            pin_reset=fact.pin_reset,
            region=fact.region,
        ),
    )
    return judge(info, ordered, genuine, known.now, calendar)


def _prove(truth: Truth, number: str, session: CardSession, reader: str) -> bool | None:
    """Whether the card proves its key; None when it does not know the command."""
    try:
        return truth.prove(number, session.authenticate, reader)
    except CardRefusedError as refused:
        if refused.sw in UNKNOWN_COMMAND:
            return None
        raise


def _pair(version: Version | None) -> tuple[int, int] | None:
    return None if version is None else (version.period, version.revision)
