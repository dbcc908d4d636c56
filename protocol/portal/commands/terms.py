"""The terms of an offer: how long it runs, who may end it, what it presupposes."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from protocol.portal.fields import Message, Slug, Text

MONTHS_MAX: Final = 120
Months = Annotated[int, Field(ge=1, le=MONTHS_MAX, description="Months in the operator's time zone")]
Authority = Literal["customer", "customer-service"]
"""On whose word a command is sent; the customer's own unless it is said."""


class Terms(Message):
    """What an order of the offer agrees to. They are kept with each subscription as they were when it was ordered.

    `fixed_months`: it runs so long, neither less nor more. `minimum_months`: the customer cannot end it earlier.
    `ended_by` customer-service: the customer cannot end it himself at all. `requires`: the card must have one of these
    offers. `price`: passed on to the invoice facts as it stands.
    """

    fixed_months: Months | None = None
    minimum_months: Months | None = None
    ended_by: Authority = "customer"
    requires: Annotated[tuple[Slug, ...], Field(strict=False, max_length=20)] = ()
    price: Text | None = None

    @model_validator(mode="after")
    def _minimum_within_fixed(self) -> Self:
        if self.fixed_months and self.minimum_months and self.minimum_months > self.fixed_months:
            raise ValueError("minimum_months: it cannot be longer than fixed_months")
        return self
