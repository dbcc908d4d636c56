"""A card in a receiver, as docs/card.md and docs/receiver.md have it: what it holds of all that it has heard."""

from dataclasses import dataclass, field

from tests.support.headend_model.content import Content, opens
from tests.support.headend_model.state import Fingerprint, Notice, Text

LETTERS = 20
INCOMPLETE = 4
NUMBERS = 64
Version = tuple[int, int]


@dataclass
class Letter:
    """A notice that was taken; `done`: read, or shown."""

    notice: Notice
    done: bool = False

    @property
    def fingerprint(self) -> bool:
        return isinstance(self.notice.says, Fingerprint)

    @property
    def forced(self) -> bool:
        return isinstance(self.notice.says, Text) and self.notice.says.forced

    def due(self, time: int) -> bool:
        """Whether it is to be shown now; a card that has opened nothing yet does not know the time."""
        in_time = not time or self.notice.start <= time < self.notice.end
        return (self.fingerprint or self.forced) and not self.done and in_time


@dataclass
class HeardCard:
    """A card that serves in a receiver. `version`, `content`: of the EMM that it took; `time`: of the newest ECM."""

    version: Version | None = None
    content: Content | None = None
    collecting: tuple[Version, set[int]] | None = None
    pin: str = "0000"
    tries: int = 3
    pin_reset: int = 0
    time: int = 0
    letters: list[Letter] = field(default_factory=list)
    incomplete: dict[int, set[int]] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    floor: int = 0

    def hear_emm(self, version: Version, part: int, last: int, content: Content) -> None:
        """Hear a part of an EMM; it counts when all parts are there."""
        newest = max(self.version or (0, 0), self.collecting[0] if self.collecting else (0, 0))
        if version < newest or version == self.version:
            return
        parts = self.collecting[1] if self.collecting is not None and self.collecting[0] == version else set()
        self.collecting = version, parts | {part}
        if len(parts | {part}) <= last:
            return
        self.collecting, self.version, self.content = None, version, content
        if content.pin_reset > self.pin_reset:
            self.pin, self.tries, self.pin_reset = "0000", 3, content.pin_reset

    def hear_notice(self, notice: Notice, part: int, last: int) -> None:
        """Hear a part of a notice that is for this card; each number counts once."""
        if notice.number <= self.floor or notice.number in self.numbers:
            return
        parts = self.incomplete.pop(notice.number, set()) | {part}
        if len(parts) <= last:
            self.incomplete[notice.number] = parts
            if len(self.incomplete) > INCOMPLETE:
                del self.incomplete[next(iter(self.incomplete))]
            return
        self.numbers = sorted([*self.numbers, notice.number])
        if len(self.numbers) > NUMBERS:
            self.floor = max(self.floor, self.numbers.pop(0))
        if notice.end > self.time:
            self.letters.append(Letter(notice))
            self.make_room()

    def make_room(self) -> None:
        """The oldest letter that is done goes, where there is none the oldest; never the newest."""
        if len(self.letters) > LETTERS:
            self.letters.remove(next((one for one in self.letters[:-1] if one.done), self.letters[0]))

    def look_at(self, letter: Letter) -> None:
        """Somebody reads a letter, or has seen what it shows."""
        letter.done = True
        if letter.fingerprint:
            self.letters.remove(letter)

    def give_pin(self, digits: str, new: str) -> bool:
        """Change the PIN, which takes the old one; three tries are there for it."""
        if not self.tries:
            return False
        if digits != self.pin:
            self.tries -= 1
            return False
        self.pin, self.tries = new, 3
        return True

    def holds(self, products: list[int], at: int) -> bool:
        """Whether it has the right and the key for an ECM of that time which names these products."""
        content, version = self.content, self.version
        if content is None or version is None or content.windows is None:
            return False
        return any(opens(content, version[0], product, at) for product in products)

    def shows(self, products: list[int], at: int, blacked_out: list[int], receiver: int) -> bool:
        """Whether the picture is there in that receiver, with the service blacked out in some regions."""
        if self.content is None or not self.holds(products, at) or self.content.region in blacked_out:
            return False
        self.time = max(self.time, at)
        return self.content.receiver in (None, receiver)
