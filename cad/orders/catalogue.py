"""Offers for people: listed, and loaded as a whole catalogue by the same way that a portal's commands go."""

from collections.abc import Callable, Sequence
from typing import Any

from cad.errors import CatalogueChangedError
from cad.frame.clock import spell
from cad.frame.metrics import Metrics
from cad.ledger.acts import catalogue
from cad.ledger.acts.catalogue import OfferChange, StandingOffer
from cad.ledger.ledger import Ledger
from cad.ledger.model import Outcome
from protocol.portal.codes import Code
from protocol.portal.commands.catalogue import Catalogue

Document = dict[str, Any]


class CatalogueDesk:
    """Lists and loads the offers of one operator at a time. `follow(outcomes)` is told of each commit.

    Every call raises NotFoundError for an operator that is not in the settings, or what the ledger raises.
    """

    def __init__(self, ledger: Ledger, metrics: Metrics, follow: Callable[[Sequence[Outcome]], None]) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._follow = follow

    async def offers(self, operator: str | None) -> Document:
        """Return the offers of one operator, or of all, under `operators`; by name, also withdrawn ones."""
        found = await self._ledger.perform(lambda batch, held: catalogue.standing(batch, held, operator))
        return {
            "operators": [
                {"operator": name, "offers": [_standing(one) for one in offers]} for name, offers in found.items()
            ]
        }

    async def compare(self, wanted: Catalogue, by: str) -> Document:
        """Return what loading the catalogue would do; `seen` stands for exactly that."""
        found = await self._compare(wanted, by)
        return _document(wanted, found, applied=False)

    async def load(self, wanted: Catalogue, seen: str, by: str) -> Document:
        """Do what `compare` has shown, one offer after the other, nothing where anything would be refused.

        Raises CatalogueChangedError when it would be something else by now.
        """
        found = await self._compare(wanted, by)
        if catalogue.fingerprint(found) != seen:
            raise CatalogueChangedError(
                f"the offers of {wanted.operator} have changed since they were compared; nothing was done: look again"
            )
        if any(one.code is not Code.OK for one in found):
            return _document(wanted, found, applied=False)
        return _document(wanted, [await self._do(one) for one in found], applied=True)

    async def _compare(self, wanted: Catalogue, by: str) -> list[OfferChange]:
        return await self._ledger.perform(lambda batch, held: catalogue.compare(batch, held, wanted, by))

    async def _do(self, one: OfferChange) -> OfferChange:
        """Commit one order. Each is a transaction of its own, so that portals' orders go in between."""
        if one.order is None:
            return one
        (outcome,) = await self._ledger.commit([one.order])
        self._follow([outcome])
        self._metrics.count_command(one.order.operator, outcome.code)
        return catalogue.done(one, outcome)


def _standing(one: StandingOffer) -> Document:
    return {
        "offer": one.offer,
        "rev": one.rev,
        **{name: value for name, value in one.fields.items() if name != "withdrawn"},
        "changed_at": spell(one.changed_at),
        "withdrawn_at": None if one.withdrawn_at is None else spell(one.withdrawn_at),
        "subscriptions": one.subscriptions,
    }


def _document(wanted: Catalogue, changes: Sequence[OfferChange], *, applied: bool) -> Document:
    return {
        "operator": wanted.operator,
        "applied": applied,
        "seen": catalogue.fingerprint(changes),
        "offers": [
            {
                "offer": one.offer,
                "change": one.change,
                "fields": [{"field": each.field, "before": each.before, "after": each.after} for each in one.fields],
                "cards": one.cards,
                "code": one.code,
                "detail": one.detail,
            }
            for one in changes
        ],
    }
