"""Makes the reports out of the ledger's history, read in short steps."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from cad.errors import NotFoundError, QuestionError
from cad.frame.clock import Clock, spell
from cad.ledger.batch import Batch
from cad.ledger.ledger import Ledger
from cad.ledger.look import history
from cad.ledger.store import HISTORY_SINCE
from cad.reports.spans import CARD, CardSpans, Names, What, cards
from config.settings import OperatorSettings, Settings
from protocol import card_number

PERIOD_MAX_DAYS: Final = 732
JUST_NOW_S: Final = 0.001
"""What stood just before a moment is counted; what has begun this instant counts as well."""

Document = dict[str, Any]
T = TypeVar("T")


class ReportDesk:
    """Days are those of the operator's time zone. Raises NotFoundError, QuestionError, and what the ledger raises."""

    def __init__(self, settings: Callable[[], Settings], ledger: Ledger, clock: Clock) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock

    async def active(self, day: str, operator: str | None = None) -> Document:
        """Return how many cards could open each service, product and offer at the end of a day, or now on this one."""
        wanted = _day(day)
        return {"day": day, "operators": [await self._active(one, wanted) for one in self._operators(operator)]}

    async def changes(self, first: str, last: str, operator: str | None = None) -> AsyncIterator[Document]:
        """Yield each activation and deactivation from the first day to the last, by operator and card, in order."""
        for one, begin, end in await self.check(first, last, operator):
            async for turns in self._each(one, partial(_turns, one.id, begin, end)):
                for document in turns:
                    yield document

    async def check(
        self, first: str, last: str, operator: str | None = None
    ) -> list[tuple[OperatorSettings, float, float]]:
        """Return whose changes are asked for, from when until before when. Raises what `changes` would raise."""
        begin_day, end_day = _day(first), _day(last)
        if not timedelta(0) <= end_day - begin_day <= timedelta(PERIOD_MAX_DAYS):
            raise QuestionError(f"from {first} to {last}: name a first day and a later last one, in two years at most")
        now = self._clock.now()
        found = [
            (one, _begin(begin_day, one), min(_begin(end_day + timedelta(1), one), now))
            for one in self._operators(operator)
        ]
        for _, begin, _ in found:
            await self._see_history(begin)
        return found

    def _operators(self, wanted: str | None) -> list[OperatorSettings]:
        everybody = self._settings().operators
        if wanted is None:
            return list(everybody)
        found = [one for one in everybody if one.id == wanted]
        if not found:
            known = ", ".join(one.id for one in everybody) or "none"
            raise NotFoundError(f"there is no operator {wanted!r} in the settings; there are: {known}")
        return found

    async def _active(self, operator: OperatorSettings, day: date) -> Document:
        now = self._clock.now()
        begin = _begin(day, operator)
        if begin > now:
            raise QuestionError(f"{day} has not begun yet in {operator.time_zone}")
        moment = min(_begin(day + timedelta(1), operator), now + JUST_NOW_S)
        await self._see_history(moment)
        counted: Counter[What] = Counter()
        async for part in self._each(operator, partial(_count, moment)):
            counted.update(part)
        return {
            "operator": operator.id,
            "as_of": spell(moment),
            "cards": counted.pop(CARD, 0),
            **{
                f"{kind}s": [
                    {kind: name, "cards": count} for (of, name), count in sorted(counted.items()) if of == kind
                ]
                for kind in ("service", "product", "offer")
            },
        }

    async def _see_history(self, moment: float) -> None:
        since = float(await self._ledger.meta_get(HISTORY_SINCE) or 0)
        if moment < since:
            raise QuestionError(f"the history of this ledger begins on {spell(since)}; ask for a later day")

    async def _each(self, operator: OperatorSettings, job: Callable[[Iterator[CardSpans]], T]) -> AsyncIterator[T]:
        """Yield what `job` makes of the cards of an operator, some at a time, beside the event loop."""
        names = await self._names(operator)
        held: list[Any] = []
        after = -1, -1
        while block := await self._ledger.perform(_following(operator.id, *after)):
            after = block[-1].address, block[-1].seq
            held += block
            # The last card of a block may go on in the next one.
            whole = [row for row in held if row.address != after[0]]
            held = held[len(whole) :]
            yield await asyncio.to_thread(_on_cards, job, whole, names)
        yield job(cards(held, names))

    async def _names(self, operator: OperatorSettings) -> Names:
        network = next(one for one in self._settings().networks if one.id == operator.network)
        products = {one.product_id: (one.id, tuple(one.services)) for one in network.products}
        return Names(products, await self._ledger.perform(lambda _, of: history.offers(of, operator.id)))


def _following(operator: str, address: int, seq: int) -> Callable[[Batch, Connection], list[Any]]:
    return lambda _, held: history.block(held, operator, address, seq)


def _on_cards(job: Callable[[Iterator[CardSpans]], T], rows: list[Any], names: Names) -> T:
    return job(cards(rows, names))


def _count(moment: float, found: Iterator[CardSpans]) -> Counter[What]:
    return Counter(what for one in found for what in one.open_at(moment))


def _turns(operator: str, begin: float, end: float, found: Iterator[CardSpans]) -> list[Document]:
    return [
        {
            "at": spell(at),
            "operator": operator,
            "card": card_number.spell(one.address),
            "what": what,
            "name": name,
            "change": "activated" if on else "deactivated",
            "command": one.commands.get(at) or None,
        }
        for one in found
        for at, (what, name), on in one.turns(begin, end)
    ]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise QuestionError(f"{text!r} is no day; write it as 2026-12-01") from None


def _begin(day: date, operator: OperatorSettings) -> float:
    return datetime.combine(day, time(), ZoneInfo(operator.time_zone)).timestamp()
