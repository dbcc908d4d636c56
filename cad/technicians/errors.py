"""What can go wrong between a technician and the headend."""

from cad.errors import CadError


class NotAllowedError(CadError):
    """The headend does not let this person do that."""


class BadRequestError(CadError):
    """What the laptop sent is not what the interface says."""


class ExtractError(CadError):
    """An extract of the ledger cannot be made, or cannot be used."""
