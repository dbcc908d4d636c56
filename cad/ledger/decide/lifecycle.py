"""The life of a card (C7): which move leads from which state to which. Whatever is not here is refused."""

from collections.abc import Mapping
from enum import StrEnum, unique
from typing import Final

from cad.ledger.model import (
    ACTIVE,
    ASSIGNED,
    BLACKLISTED,
    DEFECTIVE,
    LOST,
    REPLACED,
    RETURNED,
    STATES,
    STOCK,
    STOLEN,
    SUSPENDED,
)

IN_HANDS: Final = frozenset({ASSIGNED, ACTIVE, SUSPENDED})
"""A subscriber has the card and may use it, at once or when it is reopened."""
REPORTED: Final = frozenset({LOST, STOLEN, DEFECTIVE})


@unique
class Move(StrEnum):
    """What may happen to a card."""

    ASSIGN = "assign"
    ORDER = "order"
    SUSPEND = "suspend"
    REOPEN = "reopen"
    LOST = "report as lost"
    STOLEN = "report as stolen"
    DEFECTIVE = "report as defective"
    REPLACE = "replace"
    STAND_IN = "stand in for another"
    RETURN = "return"
    RELEASE = "release"
    BLACKLIST = "blacklist"
    SET_UP = "be set up for a household"


def _all(states: frozenset[str], to: str) -> dict[str, frozenset[str]]:
    return dict.fromkeys(states, frozenset({to}))


_IN_USE: Final = frozenset({ASSIGNED, ACTIVE})

MOVES: Final[Mapping[Move, Mapping[str, frozenset[str]]]] = {
    Move.ASSIGN: _all(frozenset({STOCK}), ASSIGNED),
    Move.ORDER: _all(frozenset({ASSIGNED}), ACTIVE),
    # Who has not paid stays blocked when the card is lost too, and so does the card that stands in for it.
    Move.SUSPEND: _all(IN_HANDS, SUSPENDED) | {state: frozenset({state}) for state in REPORTED},
    # A lost card that was found again may be reopened; a stolen or broken one never.
    Move.REOPEN: {
        ASSIGNED: frozenset({ASSIGNED}),
        ACTIVE: frozenset({ACTIVE}),
        SUSPENDED: _IN_USE,
        LOST: _IN_USE,
        STOLEN: frozenset({STOLEN}),
        DEFECTIVE: frozenset({DEFECTIVE}),
    },
    Move.LOST: _all(IN_HANDS | REPORTED, LOST),
    Move.STOLEN: _all(IN_HANDS | REPORTED, STOLEN),
    Move.DEFECTIVE: _all(IN_HANDS | REPORTED, DEFECTIVE),
    Move.REPLACE: _all(IN_HANDS | REPORTED, REPLACED),
    Move.STAND_IN: {STOCK: IN_HANDS, ASSIGNED: IN_HANDS},
    Move.RETURN: _all(IN_HANDS | REPORTED | {REPLACED}, RETURNED),
    Move.RELEASE: _all(IN_HANDS | {RETURNED}, STOCK),
    Move.BLACKLIST: _all(STATES - {BLACKLISTED}, BLACKLISTED),
    Move.SET_UP: {state: frozenset({state}) for state in IN_HANDS},
}
"""Move → state → the states it may lead to. A card that the ledger does not know yet is in stock."""


def legal(move: Move, state: str) -> bool:
    """Return whether a card in that state may make the move."""
    return state in MOVES[move]


def go(move: Move, state: str, to: str | None = None) -> str:
    """Return the state that the move leads to; `to` chooses where there is a choice. Raises ValueError."""
    ends = MOVES[move].get(state, frozenset())
    if to is None and len(ends) == 1:
        (to,) = ends
    if to not in ends:
        raise ValueError(f"a card cannot {move} from {state} to {to}")
    return to
