"""Cards that are made and not assigned yet (C7): numbers reserved for a batch, each given to one chip for ever.

A number is bound to a chip's serial number in the ledger before the chip hears of it, so that neither a lost journal
nor two makers at the same time can give one address to two cards. A bound number is never given to another chip, also
when its chip turns out to be broken.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select, update

from cad.errors import NumbersUsedUpError, StockRefusedError
from cad.ledger.acts import upkeep
from cad.ledger.batch import Batch
from cad.ledger.tables import schema
from protocol import card_number

COUNT_MAX: Final = 100_000
_ranges, _stock, _cards = schema.stock_ranges.c, schema.stock_cards.c, schema.cards.c


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Addresses reserved for a batch, both ends included."""

    operator: str
    batch: str
    first: int
    last: int

    @property
    def count(self) -> int:
        """How many numbers these are."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class StockCard:
    """A chip and its number. `made_at` None: it was begun and is not known to be finished."""

    address: int
    operator: str
    batch: str
    serial: str
    claimed_at: float
    made_at: float | None
    check_values: Mapping[str, str]


def reserve(
    act: Batch, connection: Connection, operator: str, batch: str, count: int, first: int | None = None
) -> NumberRange:
    """Reserve `count` numbers of the operator's ranges in a row; the same batch again gives the same numbers.

    Without `first` they follow the highest number in use. Raises StockRefusedError.
    """
    if not 1 <= count <= COUNT_MAX:
        raise StockRefusedError(f"a batch has 1..{COUNT_MAX} cards, not {count}")
    found = _range(connection, operator, batch)
    if found is not None:
        if found.count != count or first not in (None, found.first):
            raise StockRefusedError(
                f"batch {batch} has {_spell(found)} already: leave its count and first number, or name another batch"
            )
        return found
    grant = act.grants.operators.get(operator)
    if grant is None:
        known = ", ".join(sorted(act.grants.operators)) or "none"
        raise StockRefusedError(f"there is no operator {operator!r} in the daemon's settings; there are: {known}")
    if first is None:
        first = _following(connection, grant.ranges, count)
        if first is None:
            raise StockRefusedError(
                f"no card range of {operator} has room for {count} numbers in a row above those in use:"
                " widen the card ranges in the settings, make the batch smaller, or name its first number"
            )
    made = NumberRange(operator, batch, first, first + count - 1)
    if not any(low <= made.first and made.last <= high for low, high in grant.ranges):
        raise StockRefusedError(f"{_spell(made)} do not lie in one card range of {operator}")
    _refuse_used(connection, made)
    connection.execute(
        insert(schema.stock_ranges).values(operator=operator, batch=batch, first=made.first, last=made.last, at=act.now)
    )
    facts = {"operator": operator, "batch": batch, "first": card_number.spell(made.first), "count": count}
    upkeep.note(act, connection, "stock-reserved", facts)
    return made


def claim(
    act: Batch,
    connection: Connection,
    operator: str,
    batch: str,
    serial: str,
    *,
    address: int | None = None,
    begun: bool = False,
) -> int:
    """Give a chip its number, for ever; the same chip again gets the same one.

    `address`: the number that the maker's journal has for it. `begun`: the chip carries our keys already, so that it
    must be known. Raises StockRefusedError.
    """
    known = find(connection, serial)
    if known is not None:
        if known.operator != operator:
            raise StockRefusedError(f"chip {serial} was begun for another operator: put it aside")
        if address not in (None, known.address):
            raise StockRefusedError(
                f"chip {serial} has number {card_number.spell(known.address)} in the ledger, and"
                f" {card_number.spell(address or 0)} in the journal: this journal is of another headend"
            )
        return known.address
    reserved = _range(connection, operator, batch)
    if reserved is None:
        raise StockRefusedError(f"operator {operator} has reserved no numbers for batch {batch}")
    if address is None and begun:
        raise StockRefusedError(
            f"chip {serial} carries keys of this headend, but the ledger does not know it: read it with cad card read,"
            " and look for the journal of its batch"
        )
    if address is None:
        within = _stock.address.between(reserved.first, reserved.last)
        highest = connection.execute(select(func.max(_stock.address)).where(within)).scalar_one()
        address = reserved.first if highest is None else int(highest) + 1
        if address > reserved.last:
            raise NumbersUsedUpError(f"the {reserved.count} numbers of batch {batch} are used up: begin another batch")
    elif not reserved.first <= address <= reserved.last or _at(connection, address) is not None:
        raise StockRefusedError(
            f"number {card_number.spell(address)} of the journal is not free in batch {batch}: was the ledger put back"
            f" from a backup? Chip {serial} must not be used; destroy it"
        )
    connection.execute(
        insert(schema.stock_cards).values(
            address=address, operator=operator, batch=batch, serial=serial, claimed_at=act.now
        )
    )
    return address


def made(
    act: Batch,
    connection: Connection,
    serial: str,
    address: int,
    key_version: int,
    check_values: Mapping[str, str],
) -> StockCard:
    """Put a finished card in stock; the same again changes nothing. Raises StockRefusedError."""
    known = find(connection, serial)
    if known is None or known.address != address:
        raise StockRefusedError(f"chip {serial} was not given number {card_number.spell(address)}")
    if known.made_at is not None:
        if known.check_values != dict(check_values):
            raise StockRefusedError(f"chip {serial} is in stock already, with other keys: put it aside")
        return known
    values: dict[str, Any] = {
        "key_version": key_version,
        "check_values": json.dumps(dict(check_values), sort_keys=True),
        "made_at": act.now,
    }
    connection.execute(update(schema.stock_cards).where(_stock.serial == serial).values(**values))
    facts = {"operator": known.operator, "batch": known.batch, "card": card_number.spell(address), "serial": serial}
    upkeep.note(act, connection, "card-made", facts)
    return StockCard(address, known.operator, known.batch, serial, known.claimed_at, act.now, dict(check_values))


def find(connection: Connection, serial: str) -> StockCard | None:
    """Return the card that a chip is or becomes."""
    return _card(connection.execute(select(schema.stock_cards).where(_stock.serial == serial)).one_or_none())


def at(connection: Connection, address: int) -> StockCard | None:
    """Return the card of an address, when it was made here."""
    return _at(connection, address)


def batches(connection: Connection) -> list[dict[str, Any]]:
    """Return each batch with its numbers, and how many cards were begun, made and assigned; the newest first."""
    counted = (
        select(
            _stock.operator,
            _stock.batch,
            func.count().label("begun"),
            func.count(_stock.made_at).label("made"),
            func.count(_cards.address).label("assigned"),
        )
        .outerjoin(schema.cards, _cards.address == _stock.address)
        .group_by(_stock.operator, _stock.batch)
    )
    counts = {(row.operator, row.batch): row for row in connection.execute(counted)}
    ranges = connection.execute(select(schema.stock_ranges).order_by(_ranges.at.desc(), _ranges.batch))
    return [
        {
            "operator": row.operator,
            "batch": row.batch,
            "first": card_number.spell(row.first),
            "last": card_number.spell(row.last),
            "numbers": row.last - row.first + 1,
            "begun": found.begun if (found := counts.get((row.operator, row.batch))) is not None else 0,
            "made": found.made if found is not None else 0,
            "assigned": found.assigned if found is not None else 0,
            "reserved_at": row.at,
        }
        for row in ranges
    ]


def _range(connection: Connection, operator: str, batch: str) -> NumberRange | None:
    query = select(schema.stock_ranges).where(_ranges.operator == operator, _ranges.batch == batch)
    row = connection.execute(query).one_or_none()
    return None if row is None else NumberRange(row.operator, row.batch, row.first, row.last)


def _at(connection: Connection, address: int) -> StockCard | None:
    return _card(connection.execute(select(schema.stock_cards).where(_stock.address == address)).one_or_none())


def _card(row: Any) -> StockCard | None:
    if row is None:
        return None
    values = {} if row.check_values is None else json.loads(row.check_values)
    return StockCard(row.address, row.operator, row.batch, row.serial, row.claimed_at, row.made_at, values)


def _following(connection: Connection, ranges: tuple[tuple[int, int], ...], count: int) -> int | None:
    """Return the first of `count` numbers above all that are reserved or assigned in the first range with room."""
    for low, high in ranges:
        assigned = connection.execute(select(func.max(_cards.address)).where(_cards.address.between(low, high)))
        reserved = connection.execute(select(func.max(_ranges.last)).where(_ranges.last.between(low, high)))
        used = [int(value) for value in (assigned.scalar_one(), reserved.scalar_one()) if value is not None]
        first = max(used) + 1 if used else low
        if first + count - 1 <= high:
            return first
    return None


def _refuse_used(connection: Connection, wanted: NumberRange) -> None:
    """Raise StockRefusedError when a number is reserved for another batch, or assigned already."""
    overlapping = (_ranges.first <= wanted.last) & (_ranges.last >= wanted.first)
    if connection.execute(select(_ranges.batch).where(overlapping).limit(1)).first() is not None:
        raise StockRefusedError(f"{_spell(wanted)} are partly reserved for another batch")
    within = _cards.address.between(wanted.first, wanted.last)
    taken = connection.execute(select(func.min(_cards.address)).where(within)).scalar_one()
    if taken is not None:
        raise StockRefusedError(f"{_spell(wanted)}: {card_number.spell(taken)} is assigned to a subscriber already")


def _spell(numbers: NumberRange) -> str:
    return f"the numbers {card_number.spell(numbers.first)} to {card_number.spell(numbers.last)}"
