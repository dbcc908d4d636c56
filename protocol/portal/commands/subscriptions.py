"""Commands about subscriptions."""

from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from protocol.portal.commands.base import Command
from protocol.portal.commands.offers import PRODUCTS_MAX
from protocol.portal.commands.terms import Authority
from protocol.portal.fields import Card, Moment, Reference, Rev, Slug


def _each_once(choice: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(choice)) != len(choice):
        raise ValueError("name each product once")
    return tuple(sorted(choice))


Choice = Annotated[
    tuple[Slug, ...], Field(strict=False, min_length=1, max_length=PRODUCTS_MAX), AfterValidator(_each_once)
]
"""Products chosen out of a mix's list; the order does not matter."""


class SubscriptionPut(Command):
    """The card is to have the offer from `starts_at` (null: now) until before `ends_at` (null: no end).

    `choice`: of a mix, and of nothing else, the products that the customer chose.
    """

    resource: ClassVar[str] = "subscription"
    verb: ClassVar[str] = "put"

    subscription: Reference
    rev: Rev
    card: Card
    offer: Slug
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    choice: Choice | None = None
    authority: Authority = "customer"

    @model_validator(mode="after")
    def _ends_after_start(self) -> Self:
        if self.starts_at is not None and self.ends_at is not None and self.ends_at <= self.starts_at:
            raise ValueError("ends_at: it must be later than starts_at")
        return self


class SubscriptionEnd(Command):
    """The subscription is to end at `at` (null: now), or earlier where it ends earlier already."""

    resource: ClassVar[str] = "subscription"
    verb: ClassVar[str] = "end"

    subscription: Reference
    rev: Rev
    at: Moment | None = None
    authority: Authority = "customer"
