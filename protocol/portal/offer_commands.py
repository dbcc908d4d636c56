"""Commands about offers."""

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from protocol.portal.command import Command
from protocol.portal.fields import Rev, Slug, Texts
from protocol.portal.terms import Terms

PRODUCTS_MAX: Final = 64


class OfferPut(Command):
    """An offer is to be so: what it is called, and which products it opens."""

    resource: ClassVar[str] = "offer"
    verb: ClassVar[str] = "put"

    offer: Slug
    rev: Rev
    kind: Literal["channel", "package"]
    names: Texts
    heading: Texts | None = None
    products: Annotated[tuple[Slug, ...], Field(strict=False, min_length=1, max_length=PRODUCTS_MAX)]
    terms: Terms | None = None

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.products)) != len(self.products):
            raise ValueError("products: name each product once")
        return self
