"""All networks on the air: derived from the ledger, following every commit, built anew where settings change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import structlog

from cad.air.air_log import AirLog
from cad.air.broadcast import Channel
from cad.air.links import link_to, tasks_of
from cad.air.mass import MassChanges, Promised
from cad.air.mux_pair import MuxPair
from cad.air.network import FIRST_HOUR_S, NetworkOnAir
from cad.air.notices import NoticeBoard
from cad.air.promises import Promise, Told, is_urgent
from cad.air.rollouts import Rollouts
from cad.air.roster import CardBlock, RightBlock, join_cards
from cad.errors import NotFoundError
from cad.frame.clock import Clock
from cad.frame.health import Health
from cad.frame.lifecycle import Step
from cad.frame.metrics import Metrics
from cad.frame.supervisor import Supervisor
from cad.ledger.ledger import Ledger
from cad.ledger.model import CardChange, OpenChange, Outcome
from config.settings import NetworkSettings, Settings
from emm.calendar import Calendar
from emm.keys import KeyLadder
from emm.notices.seal import NoticeSealer
from emm.seal import EmmSealer

log = structlog.get_logger("cad.air.on_air")

LINK_STOP_S: Final = 15.0
NOTHING: Final = Promised()


class OnAir:
    """The networks by id. `start` them once; `follow` each commit; `rebuild` after a reload."""

    def __init__(
        self,
        settings: Settings,
        ladder: KeyLadder,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
        health: Health,
        supervisor: Supervisor,
    ) -> None:
        self.settings = settings
        self.calendar = calendar_of(settings)
        self.air_log = AirLog(ledger.first_air, clock)
        self._sealer = EmmSealer(ladder)
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._health = health
        self._supervisor = supervisor
        self._networks: dict[str, NetworkOnAir] = {}
        self.notices = NoticeBoard(
            lambda: self._networks, lambda: self.settings, ledger, NoticeSealer(ladder), clock, metrics
        )
        self._network_of: dict[str, str] = {}
        # Commits go on while a network is read from the ledger: what they change is applied on top.
        self._building: dict[str, list[tuple[CardChange, Promised, bool]]] = {}
        self._mass = MassChanges(lambda change, promised: self._apply(change, promised, urgent=False), clock)
        self._rollouts = Rollouts(ledger, clock, metrics, self._mass.add, self._mass.pending)

    @property
    def networks(self) -> Mapping[str, NetworkOnAir]:
        """What is on the air now."""
        return self._networks

    async def start(self) -> None:
        """Derive every network from the ledger and begin to send."""
        self._supervisor.start("air log", self.air_log.run)
        self._supervisor.start("mass changes", self._mass.run)
        self._network_of = {operator.id: operator.network for operator in self.settings.operators}
        for network in self.settings.networks:
            await self._start_network(network)
        self._supervisor.start("messages", self.notices.run)
        self._supervisor.start("messages told", self.notices.tell)
        self._supervisor.start("rollouts", self._rollouts.run)

    async def rebuild(self, settings: Settings) -> list[str]:
        """Follow changed settings: networks that changed are built anew. Returns their ids."""
        before = {network.id: network for network in self.settings.networks}
        same_carousel = settings.carousel == self.settings.carousel
        self.settings = settings
        self._network_of = {operator.id: operator.network for operator in settings.operators}
        for name, network in self._networks.items():
            network.weigh(_weights(settings, name))
        wanted = {network.id: network for network in settings.networks}
        changed = [
            name for name, network in wanted.items() if _sent(before.get(name)) != _sent(network) or not same_carousel
        ]
        for name in before:
            if name not in wanted or name in changed:
                await self._stop_network(name, gone=wanted.get(name))
        for name in changed:
            await self._start_network(wanted[name])
        self.notices.wake()
        return changed

    def steps(self) -> list[Step]:
        """The orderly end: nothing more is sent, streams are closed politely, and what was sent is noted."""
        return [
            Step("channels", self._stop_channels),
            Step("multiplexer links", self._close_links, LINK_STOP_S),
            Step("air log", self.air_log.flush),
        ]

    def follow(self, outcomes: Sequence[Outcome]) -> None:
        """Take the changes of a commit to the multiplexes."""
        for outcome in outcomes:
            self.apply(outcome.closed)
            reply = outcome.reply
            promised = Promised() if reply is None else Promised(reply.on_air_by, reply.visible_by)
            self.apply(outcome.card_changes, promised)
            if outcome.showing is not None:
                self.notices.expect(outcome.showing)
        if any(outcome.messages for outcome in outcomes):
            self.notices.wake()

    def apply(self, changes: Sequence[CardChange], promised: Promised = NOTHING) -> None:
        """Take changed cards to the multiplexes of their networks: a few at once, very many by and by."""
        if not is_urgent(len(changes)):
            self._mass.add(changes, promised)
            return
        for change in changes:
            self._apply(change, promised, urgent=True)

    def _apply(self, change: CardChange, promised: Promised, *, urgent: bool) -> None:
        name = self._network_of.get(change.operator, "")
        if name in self._networks:
            self._networks[name].apply(change, promised, urgent)
        elif name in self._building:
            self._building[name].append((change, promised, urgent))

    def promise(self, operator: str, now: float) -> Promise | Told:
        """What can be promised to an operator for what is committed now."""
        network = self._networks.get(self._network_of.get(operator, ""))
        if network is None:
            return Told(None, None, "the network of this operator is not on the air")
        promise = network.promise(operator, now, self._pending(operator))
        if isinstance(promise, Promise):
            promise.messages = self.notices.promise(operator, network, now)
        return promise

    async def switch(self, multiplex: str, to: str) -> None:
        """Have the main or the standby carry a stream. Raises NotFoundError, SwitchRefusedError."""
        channels = {channel.multiplex: channel.link for channel in self._channels()}
        if (link := channels.get(multiplex)) is None:
            raise NotFoundError(f"there is no multiplex {multiplex!r}; there is: {', '.join(channels) or 'none'}")
        if not isinstance(link, MuxPair):
            raise NotFoundError(f"multiplex {multiplex} has no standby in the settings")
        await link.switch(to)

    async def watch(self) -> None:
        """Bring metrics and conditions up to date every second."""
        backlog_s = 3 * self.settings.carousel.first_transmission_s
        while True:
            for network in self._networks.values():
                network.look(self._health, backlog_s, self._pending)
            await self._clock.sleep(1.0)

    def _pending(self, operator: str) -> int:
        """How many cards of an operator have changed, or are to follow an offer, and are not on the carousels yet."""
        return self._mass.pending(operator) + self._rollouts.left(operator)

    def _channels(self) -> list[Channel]:
        return [channel for network in self._networks.values() for channel in network.channels]

    async def _start_network(self, settings: NetworkSettings) -> None:
        links = {outlet.id: link_to(outlet, self.settings.ca.ca_system_id, self._clock) for outlet in settings.outlets}
        network = NetworkOnAir(
            settings,
            self.settings.carousel,
            links,
            self.calendar,
            self._sealer,
            self._clock,
            self._metrics,
            self.air_log.note,
            _weights(self.settings, settings.id),
        )
        began = self._clock.monotonic()
        self._building[settings.id] = []
        try:
            network.load(*await self._read(settings.id))
        finally:
            changed_meanwhile = self._building.pop(settings.id)
        for change, promised, urgent in changed_meanwhile:
            network.apply(change, promised, urgent)
        log.info(
            "network derived from the ledger",
            network=settings.id,
            cards=len(network.roster),
            seconds=round(self._clock.monotonic() - began, 2),
        )
        self._networks[settings.id] = network
        for channel in network.channels:
            self._supervisor.start(f"channel {channel.multiplex}", channel.run)
            for task, run in tasks_of(channel.multiplex, channel.link).items():
                self._supervisor.start(task, run)

    async def _read(self, network: str) -> tuple[CardBlock, RightBlock, list[OpenChange]]:
        """Everything of one network. A right whose card came after the cards were read is left to `_building`."""
        cards = join_cards([block async for block in self._ledger.load_cards(network)])
        rights = _join_rights([block async for block in self._ledger.load_rights(network)])
        recent = [change async for change in self._ledger.open_changes(self._clock.now() - FIRST_HOUR_S)]
        mine = [change for change in recent if self._network_of.get(change.operator) == network]
        return cards, _only_of(cards, rights), mine

    async def _stop_network(self, name: str, gone: NetworkSettings | None) -> None:
        network = self._networks.pop(name)
        kept = {outlet.id for outlet in gone.outlets} if gone is not None else set()
        for channel in network.channels:
            await self._supervisor.stop(f"channel {channel.multiplex}")
            await channel.link.close()
            for task in tasks_of(channel.multiplex, channel.link):
                await self._supervisor.stop(task)
            if channel.multiplex not in kept:
                self._metrics.forget_multiplex(channel.multiplex)
                for condition in ("link", "standby", "rate", "backlog"):
                    self._health.forget(condition, channel.multiplex)

    async def _stop_channels(self) -> None:
        for channel in self._channels():
            await self._supervisor.stop(f"channel {channel.multiplex}")
        await self._supervisor.stop("rollouts")
        await self._supervisor.stop("mass changes")
        await self._supervisor.stop("messages")
        await self._supervisor.stop("messages told")
        await self._supervisor.stop("air log")

    async def _close_links(self) -> None:
        await asyncio.gather(*(channel.link.close() for channel in self._channels()))


def _weights(settings: Settings, network: str) -> dict[str, float]:
    """The operators of a network with their weights."""
    return {operator.id: operator.weight for operator in settings.operators if operator.network == network}


def calendar_of(settings: Settings) -> Calendar:
    """The calendar of the settings."""
    return Calendar(settings.calendar.period_days, settings.calendar.epoch_periods, settings.calendar.overlap_periods)


def _join_rights(blocks: Sequence[RightBlock]) -> RightBlock:
    if not blocks:
        return RightBlock(
            np.zeros(0, np.uint64), np.zeros(0, np.uint16), np.zeros(0, np.uint32), np.zeros(0, np.uint32)
        )
    return RightBlock(
        np.concatenate([block.addresses for block in blocks]),
        np.concatenate([block.product_ids for block in blocks]),
        np.concatenate([block.starts for block in blocks]),
        np.concatenate([block.ends for block in blocks]),
    )


def _sent(network: NetworkSettings | None) -> NetworkSettings | None:
    """The network without what concerns its ECMs alone: when only that changes, its streams go on."""
    if network is None:
        return None
    return network.model_copy(update={"regions": (), "blackouts": (), "event_products": None, "events_at_once": 1})


def _only_of(cards: CardBlock, rights: RightBlock) -> RightBlock:
    known = np.isin(rights.addresses, cards.addresses)
    if bool(known.all()):
        return rights
    return RightBlock(rights.addresses[known], rights.product_ids[known], rights.starts[known], rights.ends[known])
