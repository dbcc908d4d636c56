"""What is told of a card, and of a card and a channel, as documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, tzinfo
from math import ceil
from typing import Any, Final

from cad.air.sent import CardOnAir
from cad.explain.case import Case
from cad.explain.needs import Need, find_needs
from cad.explain.verdict import judge
from cad.frame import clock as clocks
from cad.ledger.look.views import CardView, SubscriptionView
from cad.ledger.model import OPEN_STATES
from config.settings import NetworkSettings, ServiceSettings
from emm.calendar import Calendar
from emm.plan import Window, plan_card
from protocol import card_number, receiver_number

CHANGES_SHOWN: Final = 5


def explain_card(
    view: CardView, network: NetworkSettings, calendar: Calendar, now: float, on_air: Sequence[CardOnAir]
) -> dict[str, Any]:
    """Return all that is known of a card. `now` in Unix seconds, `on_air` as `NetworkOnAir.on_air` gives it."""
    period = calendar.period(now)
    content = plan_card(view.state not in OPEN_STATES, view.rights, period, calendar, view.traits)
    names = {product.product_id: product.id for product in network.products} | event_names(view)
    return {
        "card": card_number.spell(view.address),
        "operator": view.operator,
        "network": network.id,
        "subscriber": view.subscriber,
        "state": view.state,
        "reason": view.reason,
        "open_until": _spell(view.open_until),
        "replaced_by": None if view.replaced_by is None else card_number.spell(view.replaced_by),
        "receiver": None if view.traits.receiver is None else receiver_number.spell(view.traits.receiver),
        "parental_level": view.traits.parental,
        "region": next((one.id for one in network.regions if one.number == view.traits.region), None),
        "assigned_at": clocks.spell(view.assigned_at),
        "changed_at": clocks.spell(view.changed_at),
        "emm": {
            "key_version": view.key_version,
            "period": period,
            "revision": view.revision,
            "renewed_at": clocks.spell(calendar.period_end(period)),
        },
        "subscriptions": [_subscription(one, now) for one in view.subscriptions],
        "rights": [_window(window, names) for window in content.windows],
        "behind": list(view.behind),
        "on_air": [_place(place, now) for place in on_air],
        "changes": [
            {
                "command": one.command_id,
                "revision": one.revision,
                "at": clocks.spell(one.at),
                "first_sent": {multiplex: clocks.spell(at) for multiplex, at in one.aired.items()},
            }
            for one in view.changes[:CHANGES_SHOWN]
        ],
    }


def explain_channel(
    view: CardView,
    network: NetworkSettings,
    service: ServiceSettings,
    calendar: Calendar,
    now: float,
    on_air: Sequence[CardOnAir],
    offers: Sequence[str] = (),
    zone: tzinfo = UTC,
) -> dict[str, Any]:
    """Return why the card can see the service or not: `products` that open it, the verdict, and what is missing.

    `offers` are those that the operator sells with such a product; sentences speak of times in `zone`.
    """
    products = {product.product_id: product.id for product in network.products if service.id in product.services}
    products |= event_names(view, service.id)
    blacked_out = network.blacked_out(service.id, now).get(view.traits.region)
    case = Case(view, service, products, calendar, now, on_air, blacked_out, offers, zone)
    return {
        "service": service.id,
        "name": service.name,
        "products": sorted(products.values()),
        **asdict(judge(case)),
        "needs": [_need(need) for need in find_needs(case)],
    }


def event_names(view: CardView, service: str | None = None) -> dict[int, str]:
    """Return what the events bought for a card are called, by the number of their product: on one service, or all."""
    return {
        one.product_id: f"event {one.offer}"
        for one in view.subscriptions
        if one.product_id is not None and service in (None, one.service)
    }


def _subscription(one: SubscriptionView, now: float) -> dict[str, Any]:
    if now < one.starts_at:
        state = "to come"
    elif one.ends_at is not None and one.ends_at <= now:
        state = "ended"
    else:
        state = "live"
    return {
        "subscription": one.subscription,
        "offer": one.offer,
        "names": dict(one.offer_names),
        "products": list(one.products),
        "state": state,
        "starts_at": clocks.spell(one.starts_at),
        "ends_at": _spell(one.ends_at),
        "choice": None if one.choice is None else list(one.choice),
        "next_change_at": _spell(one.next_change_at),
    }


def _place(place: CardOnAir, now: float) -> dict[str, Any]:
    return {
        "multiplex": place.multiplex,
        "connected": place.connected,
        "ring": place.ring,
        "first_sent_at": _spell(place.first_sent_at),
        "last_sent_at": _spell(place.last_sent_at),
        "last_sent_ago_s": None if place.last_sent_at is None else round(max(0.0, now - place.last_sent_at), 1),
        "next_by": _spell_by(place.next_by),
    }


def _need(need: Need) -> dict[str, Any]:
    return {"code": need.code, "text": need.text, "names": list(need.names), "at": _spell_by(need.at)}


def _spell(at: float | None) -> str | None:
    return None if at is None else clocks.spell(at)


def _spell_by(at: float | None) -> str | None:
    return None if at is None else clocks.spell(ceil(at))


def _window(window: Window, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "products": [names.get(product, str(product)) for product in window.product_ids],
        "from": None if window.start == 0 else clocks.spell(window.start),
        "until": clocks.spell(window.end),
        "key_epochs": list(range(window.first_epoch, window.first_epoch + window.key_count)),
    }
