"""What can go wrong between a right and the bytes that carry it."""

from enum import IntEnum


class EmmError(Exception):
    """Root of every error raised by this package."""


class DecodeError(EmmError):
    """Bytes from outside are not what the format says; `reason` never contains decrypted bytes."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BuildError(EmmError):
    """A value given to a builder has no place in the format."""


class AuthenticationError(EmmError):
    """The tag does not verify: wrong key, or changed bytes. Nothing was decrypted."""


class Refusal(IntEnum):
    """Why rights do not open an ECM; the higher, the nearer they came."""

    NO_PRODUCT = 0
    OUTSIDE_WINDOW = 1
    NO_KEY = 2
    BLACKED_OUT = 3


_REFUSALS = {
    Refusal.NO_PRODUCT: "none of the service's products is held",
    Refusal.OUTSIDE_WINDOW: "the product is held, but not at the time of the ECM",
    Refusal.NO_KEY: "the product is held, but not its key of the ECM's epoch",
    Refusal.BLACKED_OUT: "the product is held, but the service is blacked out in the card's region",
}


class NotEntitledError(EmmError):
    """The rights given do not open this ECM; `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(_REFUSALS[refusal])
        self.refusal = refusal


class CalendarError(EmmError):
    """A calendar that cannot work, or a moment outside of what 32-bit seconds can say."""


class PlanError(EmmError):
    """The rights of a card cannot be said in one EMM."""
