"""Commands about offers."""

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from protocol.portal.command import Command
from protocol.portal.fields import Rev, Slug, Texts
from protocol.portal.terms import Terms

PRODUCTS_MAX: Final = 64
MIX: Final = "mix"
"""The kind of an offer of which the customer chooses a part."""


class OfferPut(Command):
    """An offer is to be so: what it is called, and which products it opens.

    Of a mix the customer chooses `choose` out of `products`; of all other kinds he has them all.
    """

    resource: ClassVar[str] = "offer"
    verb: ClassVar[str] = "put"

    offer: Slug
    rev: Rev
    kind: Literal["channel", "package", "mix"]
    names: Texts
    heading: Texts | None = None
    products: Annotated[tuple[Slug, ...], Field(strict=False, min_length=1, max_length=PRODUCTS_MAX)]
    choose: Annotated[int, Field(ge=1, le=PRODUCTS_MAX)] | None = None
    terms: Terms | None = None

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.products)) != len(self.products):
            raise ValueError("products: name each product once")
        return self

    @model_validator(mode="after")
    def _mix_says_how_many(self) -> Self:
        if (self.kind == MIX) != (self.choose is not None):
            raise ValueError("choose: say it for a mix, and for no other kind")
        if self.choose is not None and self.choose > len(self.products):
            raise ValueError("choose: there are not as many products to choose from")
        return self


class OfferWithdraw(Command):
    """The offer is not to be sold any more. Who has it keeps it; `offer put` sells it again."""

    resource: ClassVar[str] = "offer"
    verb: ClassVar[str] = "withdraw"

    offer: Slug
    rev: Rev
