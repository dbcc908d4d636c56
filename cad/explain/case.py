"""One card and one channel, with all that the answer rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from math import ceil
from typing import Final

from cad.air.sent import CardOnAir
from cad.ledger.look.views import CardView, SubscriptionView
from config.settings import ServiceSettings
from emm.calendar import Calendar
from emm.plan import Right

_MINUTE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Case:
    """Times are Unix seconds, spoken of in `zone`.

    `products`: those that open the service, by product_id. `blacked_out`: until when the service is not to be seen in
    the card's region, None when it may be. `offers`: what the operator sells with such a product.
    """

    view: CardView
    service: ServiceSettings
    products: Mapping[int, str]
    calendar: Calendar
    now: float
    on_air: Sequence[CardOnAir]
    blacked_out: int | None = None
    offers: Sequence[str] = ()
    zone: tzinfo = UTC

    @property
    def mine(self) -> list[Right]:
        """The card's rights to the service, also those that are over or to come."""
        return [right for right in self.view.rights if right.product_id in self.products]

    @property
    def runs(self) -> bool:
        """Whether one of them holds now."""
        return any(right.start <= self.now and (right.end is None or self.now < right.end) for right in self.mine)

    @property
    def connected(self) -> list[CardOnAir]:
        """The multiplexes that something can be sent on now."""
        return [place for place in self.on_air if place.connected]

    @property
    def next_by(self) -> float | None:
        """Until when the card's EMM is sent on one of the multiplexes; None while that cannot be said."""
        return min((place.next_by for place in self.connected if place.next_by is not None), default=None)

    @property
    def first_sent_at(self) -> float | None:
        """When the card's newest change was first sent anywhere, None when it was not, or it is not known."""
        return min((place.first_sent_at for place in self.on_air if place.first_sent_at is not None), default=None)

    def live(self) -> list[SubscriptionView]:
        """Return the subscriptions that run now."""
        return [
            one
            for one in self.view.subscriptions
            if one.starts_at <= self.now and (one.ends_at is None or self.now < one.ends_at)
        ]

    def giving(self) -> list[SubscriptionView]:
        """Return those of them whose offer, as it stands now, opens the service."""
        slugs = set(self.products.values())
        return [one for one in self.live() if slugs & set(one.products) or one.product_id in self.products]

    def coming(self) -> list[str]:
        """Return the offers that open the service since they changed, where the card has not followed yet."""
        return sorted({one.offer for one in self.giving() if one.offer in self.view.behind})

    def told(self, at: float) -> str:
        """Return a moment in words, as a clock on the wall shows it."""
        return datetime.fromtimestamp(at, self.zone).strftime("%Y-%m-%d %H:%M %Z")

    def told_by(self, at: float) -> str:
        """Return a moment in words that is not before it."""
        return self.told(ceil(at / _MINUTE_S) * _MINUTE_S)
