"""Messages and fingerprints on the air (C6): derived from the ledger, and derived again when a moment has come (I5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, Final, Protocol

import structlog

from cad.air import notice_promises
from cad.air.notice_log import Notice
from cad.air.notice_promises import Ahead, Screening
from cad.frame import clock as clocks
from cad.frame.clock import Clock
from cad.frame.metrics import Metrics
from cad.ledger.acts import airing
from cad.ledger.errors import LedgerUnavailable
from cad.ledger.ledger import Ledger
from cad.ledger.promise import Showing
from cad.ledger.tables.messages import OnAirMessage
from config.settings import OperatorSettings, Settings
from emm.errors import EmmError
from emm.notices.content import GROUP_SIZE
from emm.notices.seal import NoticeSealer
from protocol import card_number

log = structlog.get_logger("cad.air.notices")

LOOK_AGAIN_S: Final = 300.0
"""How often who is to see a message is looked up again."""
RETRY_S: Final = 5.0
TELL_S: Final = 1.0
"""How often it is looked at whether a message has been sent to all."""
AT_ONCE: Final = 10
"""EMMs sealed without letting others have their turn."""

Emm = tuple[bytes, ...]
"""The sections of one EMM of a notice."""


class Outlet(notice_promises.Outlet, Protocol):
    """What sends notices on one multiplex (`cad.air.broadcast.Channel`)."""

    @property
    def multiplex(self) -> str: ...
    def set_notices(self, notices: Mapping[int, Notice]) -> None: ...
    def notice_facts(self, number: int) -> tuple[int, float | None]: ...
    def notice_whole_at(self, number: int) -> float | None: ...


class Network(notice_promises.Network, Protocol):
    """A network on the air (`cad.air.network.NetworkOnAir`)."""

    @property
    def channels(self) -> Sequence[Outlet]: ...
    def key_versions(self) -> Sequence[int]: ...


def emms_to_ranges(
    message: OnAirMessage, ranges: Sequence[tuple[int, int]], key_versions: Iterable[int], sealer: NoticeSealer
) -> list[Emm]:
    """Seal a message for all cards of an operator."""
    return [
        emm for version in key_versions for emm in sealer.to_ranges(ranges, version, message.number, message.content)
    ]


def emms_to_cards(message: OnAirMessage, cards: Iterable[tuple[int, int]], sealer: NoticeSealer) -> Iterator[Emm]:
    """Seal a message for cards, (address, key version) rising: named ones singly, all others by the group."""
    if message.cards is not None:
        for address, version in cards:
            yield sealer.to_card(address, version, message.number, message.content)
        return
    for group, members in groupby(cards, key=lambda card: card[0] // GROUP_SIZE):
        by_version: dict[int, list[int]] = {}
        for address, version in members:
            by_version.setdefault(version, []).append(address)
        for version, addresses in by_version.items():
            yield sealer.to_members(group, addresses, version, message.number, message.content)


class NoticeBoard:
    """Keeps on the air what the ledger says is to be shown now, and tells when each message had been sent to all.

    `run` and `tell` are tasks; `wake` it after a commit, and let it `expect` what that has sent anew.
    """

    def __init__(
        self,
        networks: Callable[[], Mapping[str, Network]],
        settings: Callable[[], Settings],
        ledger: Ledger,
        sealer: NoticeSealer,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._networks = networks
        self._settings = settings
        self._ledger = ledger
        self._sealer = sealer
        self._clock = clock
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._shown: list[tuple[str, OnAirMessage, int]] = []
        self._sealed: dict[int, tuple[int, list[Emm]]] = {}  # by number: for whom, and what was made of it
        self._ahead = Ahead(clock)

    def wake(self) -> None:
        """Look into the ledger again at once."""
        self._wake.set()

    def expect(self, showing: Showing) -> None:
        """Reckon with a message that was committed, until it is looked up."""
        self._ahead.expect(showing)

    def promise(self, operator: str, network: Network, now: float) -> Screening | None:
        """What can be promised to an operator for messages that are committed at `now`, None before the first look."""
        return self._ahead.promise(operator, network, now)

    async def run(self) -> None:
        """Follow ledger and clock for ever."""
        while True:
            self._wake.clear()
            try:
                pause_s = await self.refresh()
            except LedgerUnavailable:
                pause_s = RETRY_S
            await self._clock.wait(self._wake, pause_s)

    async def refresh(self) -> float:
        """Bring all networks up to date; return after how many seconds to look again."""
        began, expected = self._clock.monotonic(), self._ahead.expected
        moments: list[int] = []
        shown: list[tuple[str, OnAirMessage, int]] = []
        on_air: set[int] = set()
        for name, network in self._networks().items():
            operators = {one.id: one for one in self._settings().operators if one.network == name}
            versions = tuple(network.key_versions())
            messages = await self._ledger.messages(list(operators))
            moments += [moment for one in messages for moment in (one.starts_at, one.ends_at)]
            notices: dict[int, Notice] = {}
            for message in messages:
                emms: list[Emm] = []
                if message.starts_at <= self._clock.now() < message.ends_at:
                    emms = await self._seal(message, operators[message.operator], versions)
                    notices[message.number] = Notice(message.repeat_s, emms, message.on_air_at is not None)
                    on_air.add(message.number)
                shown.append((name, message, len(emms)))
            for channel in network.channels:
                channel.set_notices(notices)
            self._ahead.look(network, operators.values(), versions, messages)
        self._ahead.settle(expected, self._clock.monotonic() - began)
        self._shown = shown
        self._sealed = {number: made for number, made in self._sealed.items() if number in on_air}
        self._count()
        now = self._clock.now()
        later = [moment - now for moment in moments if moment > now]
        return min([LOOK_AGAIN_S, *later])

    async def tell(self) -> None:
        """Have the ledger tell for ever, once of each message as it is, when it had been sent to all."""
        while True:
            await self._clock.sleep(TELL_S)
            for message, at in self._untold():
                try:
                    await self._ledger.perform(partial(airing.record_message, message=message, at=at))
                except LedgerUnavailable:
                    break
                told = replace(message, on_air_at=at)
                self._shown = [(name, told if one == message else one, emms) for name, one, emms in self._shown]

    def _untold(self) -> list[tuple[OnAirMessage, float]]:
        """Return the messages that had been sent once on every multiplex, and when, of those not known for that."""
        found = []
        networks = self._networks()
        for name, message, emms in self._shown:
            if message.on_air_at is not None or not emms or name not in networks:
                continue
            times = [channel.notice_whole_at(message.number) for channel in networks[name].channels]
            if times and None not in times:
                found.append((message, max(at for at in times if at is not None)))
        return found

    def facts(self) -> list[dict[str, Any]]:
        """Every message on the air or to come, as `cad message list` shows it."""
        now = self._clock.now()
        networks = self._networks()
        regions = {(network.id, one.number): one.id for network in self._settings().networks for one in network.regions}
        return [
            {
                "network": name,
                "operator": message.operator,
                "message": message.message,
                "number": message.number,
                "to": _spell_recipients(message, regions.get((name, message.region or 0))),
                "emms": emms,
                "starts_at": clocks.spell(message.starts_at),
                "ends_at": clocks.spell(message.ends_at),
                "repeat_s": message.repeat_s,
                "on_air": message.starts_at <= now < message.ends_at,
                "sent_to_all_at": None if message.on_air_at is None else clocks.spell(message.on_air_at),
                "multiplexes": [_sent(channel, message.number) for channel in networks[name].channels],
            }
            for name, message, emms in self._shown
            if name in networks and message.ends_at > now
        ]

    async def _seal(self, message: OnAirMessage, operator: OperatorSettings, versions: tuple[int, ...]) -> list[Emm]:
        """Return the EMMs of a message; those of before while it is for the same cards."""
        ranges = tuple((one.first, one.last) for one in operator.card_ranges)
        cards = () if message.everyone else tuple(await self._ledger.message_cards(message))
        whom = hash((ranges, versions) if message.everyone else cards)
        if (made := self._sealed.get(message.number)) is not None and made[0] == whom:
            return made[1]
        emms: list[Emm] = []
        try:
            if message.everyone:
                emms += emms_to_ranges(message, ranges, versions, self._sealer)
            for emm in emms_to_cards(message, cards, self._sealer):
                emms.append(emm)
                if len(emms) % AT_ONCE == 0:
                    await asyncio.sleep(0)
        except EmmError as error:
            log.error("a message cannot be sealed", operator=message.operator, number=message.number, error=str(error))
        self._sealed[message.number] = (whom, emms)
        return emms

    def _count(self) -> None:
        self._metrics.messages_active.clear()
        for operator in self._settings().operators:
            self._metrics.messages_active.labels(operator.id).set(0)
        for _, message, _ in self._shown:
            if message.starts_at <= self._clock.now() < message.ends_at:
                self._metrics.messages_active.labels(message.operator).inc()


def _spell_recipients(message: OnAirMessage, region: str | None) -> str:
    if message.region is not None:
        return f"cards in region {region or message.region}"
    if message.cards is None:
        return "all cards" if message.everyone else "cards with an offer"
    if len(message.cards) == 1:
        return f"card {card_number.spell(message.cards[0])}"
    return f"{len(message.cards)} cards"


def _sent(channel: Outlet, number: int) -> dict[str, Any]:
    times, last_at = channel.notice_facts(number)
    return {
        "multiplex": channel.multiplex,
        "emms_sent": times,
        "last_sent_at": None if last_at is None else clocks.spell(last_at),
    }
