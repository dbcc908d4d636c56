"""Why a card can see a channel or not: the order, the right, the key, and when it was last on the air (X5). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cad.frame import clock as clocks
from cad.ledger.look.views import CardView, SubscriptionView
from cad.ledger.model import OPEN_STATES, SUSPENDED
from config.settings import NetworkSettings, ServiceSettings
from emm.calendar import Calendar
from emm.plan import Window, plan_card
from protocol import card_number, receiver_number

CHANGES_SHOWN: Final = 5
_CLOSED: Final = {
    "stock": "The card is in stock: it is assigned to nobody.",
    "lost": "The card was reported lost. Its subscriptions wait for the card that replaces it.",
    "stolen": "The card was reported stolen. Its subscriptions wait for the card that replaces it.",
    "defective": "The card was reported defective. Its subscriptions wait for the card that replaces it.",
    "replaced": "The card was replaced by another, which has its subscriptions now.",
    "returned": "The card was returned.",
    "blacklisted": "The card is blacklisted and will never open anything again.",
}
"""Why a card in this state opens nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`code` is stable; `sentence` is what can be told to the customer."""

    visible: bool
    code: str
    sentence: str


def explain_card(
    view: CardView, network: NetworkSettings, calendar: Calendar, now: float, on_air: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """All that is known of a card. `now` in Unix seconds, `on_air` as `NetworkOnAir.on_air` gives it."""
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
        "open_until": None if view.open_until is None else clocks.spell(view.open_until),
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
        "on_air": list(on_air),
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
    on_air: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Why the card can see the service or not: `products` that open it, and the verdict."""
    products = {product.product_id: product.id for product in network.products if service.id in product.services}
    products |= event_names(view, service.id)
    blacked_out = network.blacked_out(service.id, now).get(view.traits.region)
    verdict = judge(view, service, products, calendar, now, on_air, blacked_out)
    return {
        "service": service.id,
        "name": service.name,
        "products": sorted(products.values()),
        "visible": verdict.visible,
        "code": verdict.code,
        "sentence": verdict.sentence,
    }


def event_names(view: CardView, service: str | None = None) -> dict[int, str]:
    """Return what the events bought for a card are called, by the number of their product: on one service, or all."""
    return {
        one.product_id: f"event {one.offer}"
        for one in view.subscriptions
        if one.product_id is not None and service in (None, one.service)
    }


def judge(
    view: CardView,
    service: ServiceSettings,
    products: Mapping[int, str],
    calendar: Calendar,
    now: float,
    on_air: Sequence[Mapping[str, Any]],
    blacked_out: int | None = None,
) -> Verdict:
    """The verdict on one card and service; `products` are those that open the service, by product_id.

    `blacked_out`: until when the service is not to be seen in the card's region, None when it may be.
    """
    name = service.name
    if not products:
        return Verdict(False, "no_product", f"{name} is in no product of the headend, so no card can open it.")
    if view.state == SUSPENDED:
        because = f" ({view.reason})" if view.reason else ""
        return Verdict(False, "suspended", f"The card is suspended{because}; its subscriptions are kept.")
    if view.state not in OPEN_STATES:
        return Verdict(False, f"card_{view.state}", _CLOSED[view.state])
    mine = [right for right in view.rights if right.product_id in products]
    if not mine:
        if (verdict := _judge_mixes(view, name, set(products.values()), now)) is not None:
            return verdict
        return Verdict(False, "no_subscription", f"No subscription of this card includes {name}.")
    if not any(right.start <= now and (right.end is None or now < right.end) for right in mine):
        later = [right.start for right in mine if right.start > now]
        if later:
            return Verdict(False, "not_begun", f"The subscription with {name} begins at {clocks.spell(min(later))}.")
        ended = max(right.end for right in mine if right.end is not None)
        return Verdict(False, "ended", f"The subscription with {name} ended at {clocks.spell(ended)}.")
    if blacked_out is not None:
        where = "in the card's region" if view.traits.region else "for cards without a region"
        return Verdict(False, "blacked_out", f"{name} is blacked out {where} until {clocks.spell(blacked_out)}.")
    content = plan_card(False, view.rights, calendar.period(now), calendar)
    held = {product for window in content.windows for product in window.product_ids}
    if held.isdisjoint(products):
        return Verdict(False, "not_in_emm", f"The right to {name} is not in the card's EMM; report this.")
    never = [place["multiplex"] for place in on_air if place["last_sent_at"] is None]
    if not on_air:
        return Verdict(False, "no_multiplex", "The network has no multiplex, so nothing reaches the card.")
    if len(never) == len(on_air):
        return Verdict(
            False,
            "not_on_air",
            f"The right to {name} is ordered, but has not been on the air yet on {', '.join(never)}.",
        )
    if view.changes and len(view.changes[0].aired) == 0:
        return Verdict(
            False, "not_on_air", f"The newest change of this card is not on the air yet; {name} follows soon."
        )
    where = "If the picture is missing"
    if view.traits.receiver is not None:
        where = f"Only receiver {receiver_number.spell(view.traits.receiver)} shows it; if the picture is missing there"
    return Verdict(
        True,
        "visible",
        f"The card may open {name}. {where}, leave the receiver on {name} for some minutes; "
        "`card refresh` sends the right again at once.",
    )


def _judge_mixes(view: CardView, name: str, products: set[str], now: float) -> Verdict | None:
    """Say which running mix could open the service but does not; None where none could."""
    for one in view.subscriptions:
        if one.choice is None or not (one.starts_at <= now and (one.ends_at is None or now < one.ends_at)):
            continue
        if products & set(one.choice):
            text = f"{name} was chosen, but {one.offer} does not have it any more. Another can be chosen in its place."
            return Verdict(False, "not_listed", text)
        if products & set(one.listed):
            at = clocks.spell(one.next_change_at or now)
            text = f"{name} is on the list of {one.offer}, but was not chosen. The choice can be changed from {at} on."
            return Verdict(False, "not_chosen", text)
    return None


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
        "ends_at": None if one.ends_at is None else clocks.spell(one.ends_at),
        "choice": None if one.choice is None else list(one.choice),
        "next_change_at": None if one.next_change_at is None else clocks.spell(one.next_change_at),
    }


def _window(window: Window, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "products": [names.get(product, str(product)) for product in window.product_ids],
        "from": None if window.start == 0 else clocks.spell(window.start),
        "until": clocks.spell(window.end),
        "key_epochs": list(range(window.first_epoch, window.first_epoch + window.key_count)),
    }
