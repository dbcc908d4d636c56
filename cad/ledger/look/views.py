"""A card with all that belongs to it, as it is shown to people."""

from collections.abc import Mapping
from dataclasses import dataclass

from emm.plan import Right
from emm.traits import NO_TRAITS, Traits


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    """A subscription as `explain` shows it; `products` are the slugs that it opens, out of those of its offer.

    `choice` is what was chosen out of a mix, also what its list does not have any more; None of other offers.
    `listed` is all that the offer has. Only an event has a `service`, and a `product_id` of its own.
    """

    subscription: str
    rev: int
    offer: str
    offer_names: Mapping[str, str]
    products: tuple[str, ...]
    starts_at: int
    ends_at: int | None
    changed_at: float
    minimum_until: int | None = None
    protected: bool = False
    choice: tuple[str, ...] | None = None
    next_change_at: int | None = None
    service: str | None = None
    product_id: int | None = None
    listed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One change of a card and when it was first sent where."""

    change_seq: int
    revision: int
    command_id: str
    at: float
    aired: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CardView:
    """All that the ledger knows of one card; subscriptions also ended ones, changes newest first.

    `behind`: offers that have changed, which the card has not followed yet; `rights` are what its EMM says until then.
    """

    address: int
    operator: str
    state: str
    reason: str | None
    subscriber: str
    key_version: int
    revision: int
    rev: int
    assigned_at: float
    changed_at: float
    rights: tuple[Right, ...]
    subscriptions: tuple[SubscriptionView, ...]
    changes: tuple[ChangeView, ...]
    open_until: int | None = None
    replaced_by: int | None = None
    traits: Traits = NO_TRAITS
    behind: tuple[str, ...] = ()
