"""In which order commands go out: what speaks of one resource waits for what was said of it before. Pure."""

import functools
from dataclasses import dataclass
from typing import Any, Final, get_args, get_type_hints

from protocol import card_number
from protocol.portal.commands.messages import CardFingerprint, MessagePut
from protocol.portal.commands.parsing import COMMANDS, AnyCommand
from protocol.portal.fields import Card

_RESOURCES: Final = {resource for resource, _ in COMMANDS}
_NAMED: Final = "message"
"""A resource that commands of another one state."""
_ENVELOPE: Final = {"id", "reply_to"}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a command states (`own`), and what must stand before it can be taken (`uses`), as `card/100000000008`."""

    own: frozenset[str]
    uses: frozenset[str] = frozenset()


def claims(command: AnyCommand) -> Claims:
    """Return what a command speaks of. One that names no resource of its own is alone on its kind."""
    own: set[str] = set()
    uses: set[str] = set()
    for name, is_card in _fields(type(command)):
        value = getattr(command, name)
        if value is None:
            continue
        values = value if isinstance(value, tuple) else (value,)
        if is_card:
            (own if command.resource == "card" else uses).update(f"card/{card_number.spell(one)}" for one in values)
        else:
            (own if name in (command.resource, _NAMED) else uses).update(f"{name}/{one}" for one in values)
    if isinstance(command, MessagePut | CardFingerprint):
        uses.update(f"card/{card_number.spell(one)}" for one in command.to.cards or ())
        uses.update(f"offer/{one}" for one in (command.to.offer,) if one is not None)
    return Claims(frozenset(own or {command.resource}), frozenset(uses - own))


@functools.cache
def _fields(model: type[AnyCommand]) -> tuple[tuple[str, bool], ...]:
    """The fields that name resources, and whether they hold cards."""
    hints = get_type_hints(model, include_extras=True)
    named = ((name, _holds_card(hints[name])) for name in model.model_fields if name not in _ENVELOPE)
    return tuple((name, is_card) for name, is_card in named if is_card or name in _RESOURCES)


def _holds_card(hint: Any) -> bool:
    return bool(hint == Card) or any(_holds_card(each) for each in get_args(hint))


class Lanes:
    """Unanswered commands by rising number: which may go out, and what each waits for."""

    def __init__(self) -> None:
        self._claims: dict[int, Claims] = {}
        self._owners: dict[str, dict[int, None]] = {}
        self._waiting: dict[str, list[int]] = {}

    def add(self, number: int, what: Claims) -> bool:
        """Take in a command, its number higher than all before; returns whether it may go out at once."""
        self._claims[number] = what
        for key in what.own:
            self._owners.setdefault(key, {})[number] = None
        return self._free(number)

    def settle(self, number: int) -> list[int]:
        """Take out an answered command; returns the numbers of those that may go out now."""
        what = self._claims.pop(number, None)
        if what is None:
            return []
        woken: set[int] = set()
        for key in what.own:
            owners = self._owners[key]
            del owners[number]
            if not owners:
                del self._owners[key]
            woken.update(self._waiting.pop(key, ()))
        return [each for each in sorted(woken) if each in self._claims and self._free(each)]

    def _free(self, number: int) -> bool:
        """Look for an earlier command in the way, and wait for it."""
        what = self._claims[number]
        for key in what.own | what.uses:
            first = next(iter(self._owners.get(key, ())), number)
            if first < number:
                self._waiting.setdefault(key, []).append(number)
                return False
        return True
