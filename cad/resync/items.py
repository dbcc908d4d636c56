"""Rows of the ledger as items of a snapshot. A new field stands here once, and in its model in `protocol`."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from cad.ledger.look.copying import Copied
from protocol import card_number
from protocol.portal.commands import snapshot
from protocol.portal.commands.snapshot import ItemName
from protocol.portal.commands.terms import Terms
from protocol.portal.fields import spell_moment

Extract = Callable[[Any, Mapping[int, str]], Any]
"""From a row, and the names of regions by their numbers."""


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _moment(at: int | None) -> str | None:
    return None if at is None else spell_moment(at)


def _terms(text: str | None) -> Any:
    return None if text is None else Terms.model_validate_json(text).model_dump(mode="json", exclude_defaults=True)


EXTRACTS: Final[dict[ItemName, dict[str, Extract]]] = {
    "card": {
        "rev": lambda row, _: None if row.rev < 0 else row.rev,
        "state": lambda row, _: row.state,
        "subscriber": lambda row, _: row.subscriber or None,
        "reason": lambda row, _: row.reason,
        "until": lambda row, _: _moment(row.open_until),
        "replacement": lambda row, _: None if row.replaced_by is None else card_number.spell(row.replaced_by),
        "receiver": lambda row, _: row.receiver,
        "region": lambda row, regions: regions.get(row.region),
        "parental_level": lambda row, _: row.parental,
    },
    "offer": {
        "rev": lambda row, _: row.rev,
        "kind": lambda row, _: row.kind,
        "names": lambda row, _: _json(row.names),
        "heading": lambda row, _: _json(row.heading),
        "products": lambda row, _: _json(row.products),
        "choose": lambda row, _: row.choose,
        "withdrawn": lambda row, _: row.withdrawn_at is not None,
        "service": lambda row, _: row.service,
        "starts_at": lambda row, _: _moment(row.starts_at),
        "ends_at": lambda row, _: _moment(row.ends_at),
        "terms": lambda row, _: _terms(row.terms),
    },
    "subscription": {
        "rev": lambda row, _: row.rev,
        "card": lambda row, _: card_number.spell(row.address),
        "offer": lambda row, _: row.offer,
        "starts_at": lambda row, _: _moment(row.starts_at),
        "ends_at": lambda row, _: _moment(row.ends_at),
        "choice": lambda row, _: _json(row.choice),
    },
}
_NAMES: Final[dict[ItemName, Callable[[Any], str]]] = {
    "card": lambda row: card_number.spell(row.address),
    "offer": lambda row: row.offer,
    "subscription": lambda row: row.subscription,
}


class Spelling:
    """Spells rows as keys and lines, with the fields that were asked for."""

    def __init__(self, fields: Mapping[ItemName, Iterable[str]] | None, ended_after: int) -> None:
        self.ended_after = ended_after
        chosen = snapshot.FIELDS if fields is None else fields
        self._extracts: dict[ItemName, list[tuple[str, Extract]]] = {
            item: [(name, EXTRACTS[item][name]) for name in sorted(set(names))] for item, names in chosen.items()
        }

    def lines(self, block: Copied) -> Iterator[tuple[str, str | None]]:
        """Yield key and line of each row; None for one that is left out."""
        yield from self._spell("card", block.cards, block.regions)
        yield from self._spell("offer", block.offers, {})
        for row in block.subscriptions:
            if row.ends_at is not None and row.ends_at <= self.ended_after:
                yield snapshot.key("subscription", row.subscription), None
            else:
                yield from self._spell("subscription", (row,), {})

    def _spell(self, item: ItemName, rows: Iterable[Any], regions: Mapping[int, str]) -> Iterator[tuple[str, str]]:
        extracts = self._extracts.get(item)
        if extracts is None:
            return
        name_of = _NAMES[item]
        for row in rows:
            name = name_of(row)
            made = {"item": item, item: name}
            for field, extract in extracts:
                made[field] = extract(row, regions)
            yield snapshot.key(item, name), snapshot.line(made)
