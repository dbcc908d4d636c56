"""The subscriber's PIN on a card, with its try counter, and how an EMM sets it back. Values only; pure."""

import hmac
from dataclasses import dataclass, field, replace
from typing import Final

from emm.errors import BuildError
from emm.secret import Secret

PIN_SIZE: Final = 4
TRIES_MAX: Final = 3
FACTORY_PIN: Final = Secret(b"0000")
"""The PIN of every card that is new or was reset: known to all, so that the subscriber chooses one of his own."""


@dataclass(frozen=True, slots=True)
class Pin:
    """Four digits in ASCII. `tries_left` 0: blocked. `reset_mark`: of the newest reset taken, 0 for none."""

    digits: Secret = field(default=FACTORY_PIN, repr=False)
    tries_left: int = TRIES_MAX
    reset_mark: int = 0

    def __post_init__(self) -> None:
        if not is_pin(self.digits):
            raise BuildError(f"a PIN has {PIN_SIZE} digits")
        if not 0 <= self.tries_left <= TRIES_MAX or not 0 <= self.reset_mark <= 0xFFFF_FFFF:
            raise BuildError("a PIN's try counter or mark is out of its range")

    def spent(self) -> "Pin":
        """The same with one try less, to be stored before the digits are looked at."""
        return replace(self, tries_left=self.tries_left - 1)

    def is_right(self, digits: bytes) -> bool:
        """Whether these are the digits; compared in constant time."""
        return hmac.compare_digest(self.digits, digits)

    def known(self, digits: bytes | None = None) -> "Pin":
        """The same with all tries, after its digits were given; from now on with other digits where there are any."""
        return Pin(self.digits if digits is None else Secret(digits), TRIES_MAX, self.reset_mark)

    def after(self, reset_mark: int) -> "Pin":
        """The PIN once an EMM with this mark was taken: the factory's, unless that reset was taken before."""
        return self if reset_mark <= self.reset_mark else Pin(reset_mark=reset_mark)


def is_pin(digits: bytes) -> bool:
    """Whether this has the form of a PIN."""
    return len(digits) == PIN_SIZE and digits.isdigit()
