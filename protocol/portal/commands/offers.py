"""Commands about offers."""

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from protocol.portal.commands.base import Command
from protocol.portal.commands.terms import Terms
from protocol.portal.fields import Moment, Rev, Slug, Texts

PRODUCTS_MAX: Final = 64
MIX: Final = "mix"
"""The kind of an offer of which the customer chooses a part."""
EVENT: Final = "event"
"""The kind of an offer that is one programme, bought singly."""
EVENT_MAX_S: Final = 31 * 86_400
"""How long an event may run."""


class OfferPut(Command):
    """An offer is to be so: what it is called, and which products it opens.

    Of a mix the customer chooses `choose` out of `products`; of all other kinds he has them all. An event opens one
    service from `starts_at` until before `ends_at`, by a product of its own.
    """

    resource: ClassVar[str] = "offer"
    verb: ClassVar[str] = "put"

    offer: Slug
    rev: Rev
    kind: Literal["channel", "package", "mix", "event"]
    names: Texts
    heading: Texts | None = None
    products: Annotated[tuple[Slug, ...], Field(strict=False, max_length=PRODUCTS_MAX)] = ()
    choose: Annotated[int, Field(ge=1, le=PRODUCTS_MAX)] | None = None
    service: Slug | None = None
    starts_at: Moment | None = None
    ends_at: Moment | None = None
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

    @model_validator(mode="after")
    def _goes_with_its_kind(self) -> Self:
        window = {"service": self.service, "starts_at": self.starts_at, "ends_at": self.ends_at}
        if self.kind != EVENT:
            if not self.products:
                raise ValueError(f"products: a {self.kind} opens at least one product")
            for name, value in window.items():
                if value is not None:
                    raise ValueError(f"{name}: only an event has one")
            return self
        if self.products:
            raise ValueError("products: an event has a product of its own; name its service")
        for name, value in window.items():
            if value is None:
                raise ValueError(f"{name}: an event has one")
        self._lasts(self.starts_at or 0, self.ends_at or 0)
        return self

    def _lasts(self, starts_at: int, ends_at: int) -> None:
        if not starts_at < ends_at <= starts_at + EVENT_MAX_S:
            raise ValueError(f"ends_at: it must be later than starts_at, by {EVENT_MAX_S // 86_400} days at most")
        if self.terms is not None and (self.terms.fixed_months or self.terms.minimum_months):
            raise ValueError("terms: an event has no months")


class OfferWithdraw(Command):
    """The offer is not to be sold any more. Who has it keeps it; `offer put` sells it again."""

    resource: ClassVar[str] = "offer"
    verb: ClassVar[str] = "withdraw"

    offer: Slug
    rev: Rev
