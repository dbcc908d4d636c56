"""What can go wrong when cards are put in turn."""

from emm.errors import EmmError


class CarouselError(EmmError):
    """A slot, a size, a rate or a policy that the carousel or the pacer cannot work with."""
