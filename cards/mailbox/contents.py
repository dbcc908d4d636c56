"""What a mailbox holds, and how it takes a notice: each once, the newest kept when there is no more room. Pure."""

from dataclasses import dataclass, replace
from typing import Final

from cards.status_word import StatusWord
from emm.errors import BuildError, DecodeError
from emm.message import PARTS_MAX
from emm.notices.content import CONTENT_MAX, Fingerprint, Message, Notice, parse_content

LETTERS_MAX: Final = 20
BYTES_MAX: Final = 8_000
"""Of the contents of all letters together."""
INCOMPLETE_MAX: Final = 4
TAKEN_MAX: Final = 64
NUMBER_MAX: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Letter:
    """A notice that was taken. `done`: read, or shown on the screen."""

    number: int
    content: bytes
    done: bool = False

    @property
    def notice(self) -> Notice:
        """What it says."""
        return parse_content(self.content)

    def due(self, time: int) -> bool:
        """Return whether a receiver is to show it at once; a card that has heard no ECM yet has time 0."""
        notice = self.notice
        if self.done or (isinstance(notice, Message) and not notice.forced):
            return False
        return not time or notice.start <= time < notice.end


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The parts held so far of a notice: (part number, piece of its content)."""

    number: int
    last_part: int
    pieces: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Letters in the order they came. `taken`: the highest numbers ever taken, rising; up to `floor` all count as so.

    Raises `BuildError` for what no mailbox holds.
    """

    letters: tuple[Letter, ...] = ()
    incomplete: tuple[Incomplete, ...] = ()
    taken: tuple[int, ...] = ()
    floor: int = 0

    def __post_init__(self) -> None:
        numbers = [*self.taken, *(one.number for one in self.letters), *(one.number for one in self.incomplete)]
        if not 0 <= self.floor <= NUMBER_MAX or any(not 0 < number <= NUMBER_MAX for number in numbers):
            raise BuildError(f"the number of a notice lies in 1..{NUMBER_MAX}")
        if list(self.taken) != sorted(set(self.taken)) or len(self.taken) > TAKEN_MAX:
            raise BuildError(f"numbers of taken notices rise, at most {TAKEN_MAX} of them")
        if len(self.letters) > LETTERS_MAX or len(self.incomplete) > INCOMPLETE_MAX:
            raise BuildError(f"a mailbox holds {LETTERS_MAX} letters and {INCOMPLETE_MAX} that are not complete")
        if len({one.number for one in self.letters}) != len(self.letters):
            raise BuildError("a letter is held once")
        for one in self.incomplete:
            _check_pieces(one)
        for letter in self.letters:
            _check_content(letter.content)

    def find(self, number: int) -> Letter | None:
        """Return a letter by its number."""
        return next((one for one in self.letters if one.number == number), None)


def judge(mailbox: Mailbox, number: int, part: int, last_part: int) -> StatusWord:
    """Whether a part of a notice says something new: OK or ALREADY_HELD."""
    if number <= mailbox.floor or number in mailbox.taken:
        return StatusWord.ALREADY_HELD
    held = next((one for one in mailbox.incomplete if one.number == number), None)
    if held is not None and held.last_part == last_part and any(each == part for each, _ in held.pieces):
        return StatusWord.ALREADY_HELD
    return StatusWord.OK


def add(
    mailbox: Mailbox, number: int, part: int, last_part: int, piece: bytes, time: int
) -> tuple[Mailbox, StatusWord]:
    """The mailbox after a part that `judge` found new and that is for this card; `time` of the newest ECM, 0: none.

    OK: the notice was complete and is a letter now; PART_HELD: other parts are awaited; OLDER_VERSION: complete, but
    its time is over, so it is left out; NOT_UNDERSTOOD: it is none that this card knows. Each number is taken once.
    """
    pieces: tuple[tuple[int, bytes], ...] = ()
    others = tuple(one for one in mailbox.incomplete if one.number != number)
    held = next((one for one in mailbox.incomplete if one.number == number), None)
    if held is not None and held.last_part == last_part:
        pieces = held.pieces
    pieces = tuple(sorted((*pieces, (part, piece))))
    if len(pieces) <= last_part:
        grown = (*others, Incomplete(number, last_part, pieces))
        return replace(mailbox, incomplete=grown[-INCOMPLETE_MAX:]), StatusWord.PART_HELD
    content = b"".join(each for _, each in pieces)
    rest = _note_taken(replace(mailbox, incomplete=others), number)
    try:
        notice = parse_content(content)
    except DecodeError:
        return rest, StatusWord.NOT_UNDERSTOOD
    if notice.end <= time:
        return rest, StatusWord.OLDER_VERSION
    return replace(rest, letters=_fit((*rest.letters, Letter(number, content)))), StatusWord.OK


def mark(mailbox: Mailbox, number: int) -> Mailbox:
    """The mailbox after a letter was read or shown: it may make room for others, and a fingerprint goes at once."""
    letters = [replace(one, done=True) if one.number == number else one for one in mailbox.letters]
    kept = [one for one in letters if not (one.done and isinstance(one.notice, Fingerprint))]
    return replace(mailbox, letters=tuple(kept))


def _fit(letters: tuple[Letter, ...]) -> tuple[Letter, ...]:
    """Drop letters until the rest has room: the oldest that was read or shown, else the oldest; never the newest."""
    kept = list(letters)
    while len(kept) > LETTERS_MAX or sum(len(one.content) for one in kept) > BYTES_MAX:
        kept.remove(next((one for one in kept[:-1] if one.done), kept[0]))
    return tuple(kept)


def _note_taken(mailbox: Mailbox, number: int) -> Mailbox:
    taken = sorted({*mailbox.taken, number})
    floor = max([mailbox.floor, *taken[:-TAKEN_MAX]])
    return replace(mailbox, taken=tuple(taken[-TAKEN_MAX:]), floor=floor)


def _check_pieces(one: Incomplete) -> None:
    numbers = [number for number, _ in one.pieces]
    if not 0 < one.last_part < PARTS_MAX or any(not 0 <= number <= one.last_part for number in numbers):
        raise BuildError(f"part numbers are 0..{PARTS_MAX - 1}, the last part's the highest")
    if len(set(numbers)) != len(numbers) or len(numbers) > one.last_part:
        raise BuildError("a part of a notice is held once, and never all of them")


def _check_content(content: bytes) -> None:
    if len(content) > CONTENT_MAX:
        raise BuildError(f"the content of a notice has at most {CONTENT_MAX} bytes")
    try:
        parse_content(content)
    except DecodeError as error:
        raise BuildError(f"a letter is no notice: {error.reason}") from None
