"""What the control socket can ask of the running daemon (`cad.http.facade.Headend`)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import Any
from zoneinfo import ZoneInfo

from cad.air.network import carried_by
from cad.air.on_air import OnAir
from cad.errors import NotFoundError
from cad.explain.document import explain_card, explain_channel
from cad.frame import clock as clocks
from cad.frame.clock import SystemClock
from cad.ledger.acts import stock
from cad.ledger.ledger import Ledger
from cad.ledger.look import selling
from cad.ledger.look.views import CardView
from config.settings import NetworkSettings, OperatorSettings, ServiceSettings
from protocol import card_number

Document = dict[str, Any]


class HeadendView:
    """Reads the daemon's parts; changes nothing but, on the operator's word, what the clock is believed to say."""

    def __init__(
        self,
        on_air: OnAir,
        ledger: Ledger,
        clock: SystemClock,
        broker: Callable[[], Document],
        started_at: float,
        ecmg: Callable[[], Document | None] = lambda: None,
    ) -> None:
        self._on_air = on_air
        self._ledger = ledger
        self._clock = clock
        self._broker = broker
        self._started_at = started_at
        self._ecmg = ecmg

    def status(self) -> Document:
        """How the daemon is."""
        settings = self._on_air.settings
        return {
            "node": settings.node.name,
            "version": version("cad"),
            "started_at": clocks.spell(self._started_at),
            "now": clocks.spell(self._clock.now()),
            "period": self._on_air.calendar.period(self._clock.now()),
            "broker": self._broker(),
            "ledger": {"fault": self._ledger.fault, "warnings": list(self._ledger.warnings)},
            "networks": [
                {
                    "network": network.id,
                    "cards": len(network.roster),
                    "multiplexes": [
                        {
                            "multiplex": channel.multiplex,
                            "connected": channel.link.ready,
                            "carried_by": carried_by(channel.link),
                            "allocated_bps": channel.link.allocated_bps,
                            "waiting_changes": channel.waiting,
                        }
                        for channel in network.channels
                    ],
                }
                for network in self._on_air.networks.values()
            ],
            "rollouts": [
                {
                    "operator": one.operator,
                    "command": one.command_id or "settings",
                    "since": clocks.spell(one.at),
                    "cards_left": one.cards_left,
                }
                for one in self._ledger.rollouts
            ],
            "messages_on_air": sum(one["on_air"] for one in self._on_air.notices.facts()),
            "ecmg": self._ecmg(),
        }

    async def explain(self, card: str, channel: str | None, operator: str | None = None) -> Document:
        """Why the card can see the channel or not. Raises CardNumberError, NotFoundError.

        For an `operator`, a card that is another's is answered like one that does not exist (I10).
        """
        address = card_number.parse(card)
        if operator is not None:
            self._settings_of(operator)
        view = await self._ledger.card_view(address)
        if view is None or operator not in (None, view.operator):
            raise NotFoundError(await self._why_unassigned(address, operator))
        network, owner = self._network_of(view)
        calendar, now = self._on_air.calendar, self._clock.now()
        live = self._on_air.networks.get(network.id)
        aired = view.changes[0].aired if view.changes else {}
        places = () if live is None else live.on_air(address, view.operator, aired)
        document = explain_card(view, network, calendar, now, places)
        if channel is not None:
            service = _service(network, channel)
            slugs = [product.id for product in network.products if service.id in product.services]
            offers = await self._ledger.perform(
                lambda act, held: selling.offers_with(held, act.grants, owner.id, slugs, service.id, now)
            )
            zone = ZoneInfo(owner.time_zone)
            document["channel"] = explain_channel(view, network, service, calendar, now, places, offers, zone)
        return document

    def carousel(self) -> Document:
        """What each multiplex sends."""
        return {
            "now": clocks.spell(self._clock.now()),
            "multiplexes": [facts for network in self._on_air.networks.values() for facts in network.facts()],
        }

    def messages(self) -> Document:
        """What is shown on the screen now, or will be."""
        return {"now": clocks.spell(self._clock.now()), "messages": self._on_air.notices.facts()}

    async def audit_verify(self) -> Document:
        """Verify the whole audit chain. Raises AuditBroken."""
        head = await self._ledger.audit_verify()
        return {"records": head.seq, "head": head.spell()}

    def audit_export(self, operator: str | None = None) -> AsyncIterator[bytes]:
        """The audit records, one JSON line each, in order; each with its MAC. Raises NotFoundError at once.

        For an `operator`, only the records that bear its name.
        """
        if operator is not None:
            self._settings_of(operator)
        return self._records(operator)

    async def _records(self, operator: str | None) -> AsyncIterator[bytes]:
        async for record, mac in self._ledger.audit_export():
            if operator in (None, record.get("operator")):
                yield json.dumps({**record, "mac": mac}, ensure_ascii=False).encode() + b"\n"

    async def check(self) -> Document:
        """What only the owner of the ledger can check."""
        fault = self._ledger.fault
        checks = [
            {
                "name": "ledger",
                "ok": fault is None,
                "text": fault or "the daemon has it open and writes to it",
                "advice": "" if fault is None else "see cad status",
            }
        ]
        checks += [
            {"name": "ledger", "ok": False, "text": warning, "advice": "cad audit verify"}
            for warning in self._ledger.warnings
        ]
        return {"checks": checks}

    async def believe_clock(self) -> Document:
        """Take the machine's clock as it is; on record before it is done (C12)."""
        await self._ledger.note("clock-believed", {"instead_of": clocks.spell(self._clock.now())})
        self._clock.believe()
        return {"now": clocks.spell(self._clock.now()), "suspect": self._clock.suspect}

    async def _why_unassigned(self, address: int, operator: str | None) -> str:
        number = card_number.spell(address)
        made = await self._ledger.perform(lambda _, held: stock.at(held, address))
        if operator is not None and (made is None or made.operator != operator):
            return f"card {number} is not a card of {operator}"
        if made is None:
            return f"card {number} was never assigned: no order for it can have been accepted"
        state = "is being made" if made.made_at is None else f"is in stock since {clocks.spell(made.made_at)}"
        return f"card {number} {state} (batch {made.batch} of {made.operator}) and was never assigned"

    def _network_of(self, view: CardView) -> tuple[NetworkSettings, OperatorSettings]:
        owner = next((one for one in self._on_air.settings.operators if one.id == view.operator), None)
        for network in self._on_air.settings.networks:
            if owner is not None and network.id == owner.network:
                return network, owner
        raise NotFoundError(f"operator {view.operator} of this card is no longer in the settings")

    def _settings_of(self, operator: str) -> OperatorSettings:
        """The operator that somebody names. Raises NotFoundError."""
        for one in self._on_air.settings.operators:
            if one.id == operator:
                return one
        raise NotFoundError(f"there is no operator {operator!r} in the settings")


def _service(network: NetworkSettings, channel: str) -> ServiceSettings:
    for service in network.services:
        if channel in (service.id, service.name):
            return service
    known = ", ".join(service.id for service in network.services)
    raise NotFoundError(f"network {network.id} has no service {channel!r}; it has: {known or 'none'}")
