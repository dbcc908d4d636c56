"""One EMM stream towards one multiplexer: its carousel, its pacer, its link."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from cad.air.links import Link
from cad.air.muxes import Allocation, ChangedOver, LinkDownError, LinkEvent, LinkLost, LinkUp
from cad.air.notice_log import Notice, NoticeLog
from cad.air.outgoing import FirstAir, Section, WaitingChange
from cad.air.roster import SectionCache
from cad.air.sent import LastSent
from cad.frame.clock import Clock
from cad.frame.metrics import Metrics
from config.outlets import Outlet, StreamSettings
from emm.carousel import RESEND_HORIZON_S, Carousel, Forecast, Place
from emm.errors import EmmError
from emm.message import EMM_MAX, PARTS_MAX
from emm.pacer import ITEM_BITS, PACKET_BITS, Pacer, cost_bits
from emm.rotation.arithmetic import HOLDING_S, USABLE_SHARE
from emm.rotation.notice_forecast import NoticeForecast
from emm.rotation.notices import NoticeEmm, NoticeTurns
from emm.rotation.policy import LANE_NAMES, NEW
from protocol.mpegts.packet import LAST_FREE_PID, Packing, SectionPacketizer

log = structlog.get_logger("cad.air.broadcast")

QUEUE_AT_MUX_S: Final = 5.0
"""How much a multiplexer may hold in its queue; a new connection purges it, so that much is sent again."""

MESSAGE_SHARE: Final = 0.05
NOTICE_RING: Final = "notice"

TICK_S: Final = 0.01
IDLE_MAX_S: Final = 1.0
RING_NAMES: Final = ("new", "bulk", "fresh", "hour", "base", NOTICE_RING)
NOTICE: Final = -1
"""Stands for the slot of a section that is no card's EMM."""


class Channel:
    """Sends what its carousel says, as fast as the multiplexer allocates and never faster (I11)."""

    def __init__(
        self,
        settings: Outlet,
        link: Link,
        carousel: Carousel,
        cache: SectionCache,
        clock: Clock,
        metrics: Metrics,
        aired: Callable[[Sequence[FirstAir]], None],
        message_share: float = MESSAGE_SHARE,
    ) -> None:
        self.settings = settings
        self.link = link
        self.carousel = carousel
        self._cache = cache
        self._clock = clock
        self._metrics = metrics
        self._aired = aired
        self.notices = NoticeTurns(message_share)
        self.last_sent = LastSent(clock.monotonic())
        self._notice_log = NoticeLog()
        self._pacer = Pacer(burst_s=settings.burst_ms / 1000)
        self._packetizer = _packetizer(settings)
        # A batch may bring out the packet held back before it, and end in one that is half empty.
        self._stuffing = 0 if self._packetizer is None else 2 * PACKET_BITS
        # A section begins in a packet only where its header fits whole: up to three bytes are lost before it.
        self._lost_bytes = 0 if self._packetizer is None else 3
        self.sent_bits = 0
        self._queue: deque[Section] = deque()
        self._on_its_way: Sequence[Section] = ()
        self._waiting: dict[int, tuple[WaitingChange, ...]] = {}
        self._visible: dict[int, tuple[str, float]] = {}  # sent once: whose, and when it was promised to be visible
        self._wake = asyncio.Event()
        self._sent_emms = {ring: metrics.sent_emms.labels(settings.id, ring) for ring in RING_NAMES}
        self._bits_counter = metrics.sent_bits.labels(settings.id)
        self._to_air = metrics.publish_to_air.labels(settings.id)
        link.subscribe(self._on_link)

    @property
    def multiplex(self) -> str:
        return self.settings.id

    @property
    def waiting(self) -> int:
        """Changes that have not been on the air here."""
        return sum(map(len, self._waiting.values()))

    def change(
        self, slot: int, sections: Sequence[int], change: WaitingChange, urgent: bool = True, operator: int = 0
    ) -> None:
        """A card's content has changed: send it before all that repeats. `sections`: their sizes in bytes.

        `operator`: its number among those that share the carousel.
        """
        self._waiting[slot] = (*self._waiting.get(slot, ()), change)
        changed_at = self._monotonic_at(change.committed_at)
        self.carousel.change(slot, self.size(sections), self._clock.monotonic(), changed_at, urgent, operator)
        self._wake.set()

    def restore(self, slot: int, sections: Sequence[int], committed_at: float, operator: int = 0) -> None:
        """A card's change was on the air before this start, in its first hour."""
        changed_at = self._monotonic_at(committed_at)
        self.carousel.restore(slot, self.size(sections), self._clock.monotonic(), changed_at, operator)

    @property
    def carousel_bps(self) -> float:
        """The rate that cards' EMMs can count on: what notices may take is taken off."""
        return self.link.allocated_bps * (1 - self.notices.share)

    def set_notices(self, notices: Mapping[int, Notice]) -> None:
        """Send these notices, by number, from now on, and no others."""
        priced = [
            NoticeEmm(number, index, tuple((data, self._cost(data)) for data in sections), one.repeat_s, one.late)
            for number, one in notices.items()
            for index, sections in enumerate(one.emms)
        ]
        now = self._clock.monotonic()
        self.notices.put(priced, now)
        self._drop_all_but(priced)
        self._notice_log.keep(notices.keys(), self.notices.is_whole, now)
        self.yield_share()
        self._wake.set()

    def _drop_all_but(self, notices: Sequence[NoticeEmm]) -> None:
        """What is over, or for others now, does not go out from the queue, which may have stood still for long."""
        if any(one.slot == NOTICE for one in self._queue):
            kept = {data for emm in notices for data, _ in emm.sections}
            self._queue = deque(one for one in self._queue if one.slot != NOTICE or one.data in kept)

    def yield_share(self) -> None:
        """Leave notices a tenth of their share while changes and repeats are short of bandwidth without the rest."""
        rest = self.link.allocated_bps * (1 - self.notices.full_share)
        short = len(self.notices) > 0 and bool(self.carousel.shortfalls(rest))
        self.notices.squeeze(short, self._clock.monotonic())
        self.carousel.set_rate(self.carousel_bps)

    def notice_facts(self, number: int) -> tuple[int, float | None]:
        """How many EMMs of a notice have gone out here since the daemon's start, and when the last (Unix seconds)."""
        return self._notice_log.emms(number)

    def notice_whole_at(self, number: int) -> float | None:
        """When all EMMs of a notice, as it is now, had gone out here once (Unix seconds), None before."""
        return self._notice_log.whole_at(number)

    def notice_forecast(self) -> NoticeForecast:
        """What is certain here for a notice that is ordered now, even while notices have to give way."""
        usable = self.link.allocated_bps * USABLE_SHARE
        rate = usable * self.notices.certain_share
        if not self.link.ready or rate <= 0:
            return NoticeForecast(0.0, self.notices.waiting_bits, 0.0)
        # A card's EMM that has begun, and of notices one that has begun and one of the other lane.
        largest = PARTS_MAX * cost_bits(EMM_MAX, self.settings.packing)
        return NoticeForecast(rate, self.notices.waiting_bits, largest / rate + largest / usable + HOLDING_S)

    def notice_bits(self, sections: Sequence[int]) -> int:
        """What an EMM of a notice with sections of these sizes in bytes takes on the air here."""
        return sum(cost_bits(size + self._lost_bytes, self.settings.packing) for size in sections)

    def size(self, sections: Sequence[int]) -> int:
        """Bytes that sections of these sizes take on the air here."""
        return bytes_on_air([cost_bits(size, self.settings.packing) for size in sections])

    def forecast(self, sections: Sequence[int], operator: int = 0) -> Forecast:
        """What can be promised for changes that an operator makes now."""
        return self.carousel.forecast(self._clock.monotonic(), self.size(sections), self.carousel_bps, operator)

    def next_at(self, place: Place, operator: int = 0) -> float | None:
        """Until when a card of the operator in that place is sent, as far as the present rate and cards let expect.

        By the monotonic clock; None while the link is down or nothing can be said.
        """
        if not self.link.ready:
            return None
        now = self._clock.monotonic()
        if place.ring in LANE_NAMES:
            forecast = self.carousel.forecast(now, place.size, self.carousel_bps, operator)
            by = now + (forecast.first_s if place.ring == LANE_NAMES[NEW] else forecast.bulk_first_s)
        else:
            facts = self.carousel.cycle_facts(self.carousel_bps)
            cycle_s = next(one.cycle_s for one in facts if one.name == place.ring)
            up_at = now if self.link.since is None else self._monotonic_at(self.link.since)
            due = max(up_at, place.sent_at or up_at) + cycle_s
            by = due if due > now else now + cycle_s
        return by if math.isfinite(by) else None

    def _monotonic_at(self, unix_time: float) -> float:
        return self._clock.monotonic() - max(0.0, self._clock.now() - unix_time)

    async def run(self) -> None:
        """Send for ever; while the link is down, wait for it."""
        while True:
            await self.link.wait_ready()
            try:
                await self._send_while_ready()
            except LinkDownError:
                # What was taken from the carousel and not sent comes again through `_on_link`.
                continue

    async def _send_while_ready(self) -> None:
        while self.link.ready:
            self._wake.clear()
            batch = self._take()
            if batch:
                await self._send(batch, self._spell(batch))
            await self._pause()

    async def _send(self, batch: Sequence[Section], datagrams: Sequence[bytes]) -> None:
        self._on_its_way = batch
        try:
            await self.link.send(datagrams)
        except LinkDownError:
            for section in batch:
                self._put_back(section)
            raise
        finally:
            self._on_its_way = ()
        sent_at = self._clock.monotonic()
        self._pacer.on_wire(sent_at)
        at = self._clock.now()
        first = []
        for section in batch:
            if section.notice is not None:
                self._notice_log.note_whole(section.notice, section.drawn_at, at)
            if section.last and section.slot != NOTICE:
                self.last_sent.note(section.slot, sent_at)
            for change in section.changes:
                first.append(FirstAir(change.change_seq, self.multiplex, at))
                self._to_air.observe(max(0.0, at - change.committed_at))
            self._judge(section, at)
        if first:
            self._aired(first)

    def _judge(self, section: Section, at: float) -> None:
        """Compare what was promised with what became of it: visible is what has come a second time."""
        if not section.last:
            return
        if (seen := self._visible.pop(section.slot, None)) is not None:
            self._metrics.count_promise(seen[0], "visible_by", at - seen[1])
        for change in section.changes:
            if change.on_air_by is not None:
                self._metrics.count_promise(change.operator, "on_air_by", at - change.on_air_by)
            if change.visible_by is not None:
                self._visible[section.slot] = (change.operator, change.visible_by)

    def _take(self) -> list[Section]:
        """As many sections as may go now; in packet mode two packets more may come out (held back, half empty)."""
        now = self._clock.monotonic()
        room = self._pacer.allowance(now) - self._stuffing
        batch: list[Section] = []
        bits = 0
        while True:
            if not self._queue:
                self._draw(now)
                if not self._queue:
                    break
            due = self._queue[0].bits
            # An EMM that is larger than a burst goes alone, as soon as the last second has room for it.
            if bits + due > room and (bits or self._pacer.next_at(due + self._stuffing, now) > now):
                break
            bits += due
            batch.append(self._queue.popleft())
        return batch

    def _spell(self, batch: Sequence[Section]) -> list[bytes]:
        """The datagrams of a batch, reckoned as sent. A packet that is not full waits only where repeats follow."""
        if self._packetizer is None:
            datagrams = [section.data for section in batch]
            bits = sum(section.bits for section in batch)
        else:
            datagrams = [packet for section in batch for packet in self._packetizer.push(section.data)]
            if not self._queue or any(section.changes for section in batch):
                datagrams += self._packetizer.flush()
            bits = len(datagrams) * PACKET_BITS
        self._pacer.spend(bits, self._clock.monotonic())
        self.sent_bits += bits
        self._bits_counter.inc(bits)
        return datagrams

    def _draw(self, now: float) -> None:
        """Put what goes out next in the queue: a section of a notice within their share, or the sections of a card.

        A card whose EMM cannot be made is left out aloud.
        """
        if (notice := self.notices.pop(now)) is not None:
            whole = notice.number if notice.whole else None
            self._queue.append(Section(notice.section, notice.bits, NOTICE, (), now, notice.last, whole))
            if notice.last:
                self._sent_emms[NOTICE_RING].inc()
                self._notice_log.note_emm(notice.number, self._clock.now())
            return
        while (turn := self.carousel.pop(now)) is not None:
            slot = turn.slot
            changes = self._waiting.pop(slot, ())
            try:
                sections = self._cache.sections(slot, self._clock.now())
            except EmmError as error:
                self._metrics.emm_failures.labels(self.multiplex).inc()
                log.error("a card's EMM cannot be made", multiplex=self.multiplex, slot=slot, error=str(error))
                continue
            self._sent_emms[turn.ring].inc()
            costs = [self._cost(data) for data in sections]
            self.carousel.resize(slot, bytes_on_air(costs))
            last = len(sections) - 1
            for part, (data, bits) in enumerate(zip(sections, costs, strict=True)):
                self._queue.append(Section(data, bits, slot, changes if part == last else (), now, part == last))
            return

    def _cost(self, section: bytes) -> int:
        return cost_bits(len(section) + self._lost_bytes, self.settings.packing)

    async def _pause(self) -> None:
        """Wait until something may go: in ticks, so that a fast stream does not cost a core; woken by a change."""
        now = self._clock.monotonic()
        if self._queue:
            next_bits = self._queue[0].bits + self._stuffing
            tick = now + min(max(self._pacer.next_at(next_bits, now) - now, TICK_S), IDLE_MAX_S)
            if await self._clock.wait(self._wake, tick - now):
                # A change goes out behind what is next, as soon as there is room for both, if that is before the tick.
                now = self._clock.monotonic()
                await self._clock.sleep(min(self._pacer.next_at(next_bits + ITEM_BITS, now), tick) - now)
            return
        due = min(self.carousel.next_at(now), self.notices.next_at(now))
        idle = min(max(due - now, TICK_S), IDLE_MAX_S)
        await self._clock.wait(self._wake, idle)

    def _put_back(self, section: Section) -> None:
        if section.changes:
            self._waiting[section.slot] = (*section.changes, *self._waiting.get(section.slot, ()))

    def _on_link(self, event: LinkEvent) -> None:
        now = self._clock.monotonic()
        match event:
            case LinkUp():
                self._metrics.link_up.labels(self.multiplex).set(1)
                self._metrics.link_connects.labels(self.multiplex).inc()
            case LinkLost(heard_at=heard_at):
                self._metrics.link_up.labels(self.multiplex).set(0)
                self._metrics.link_errors.labels(self.multiplex).inc()
                self._lost(now, now if heard_at is None else heard_at)
            case Allocation(bps=bps):
                self._pacer.set_rate(bps, now)
                self.notices.set_rate(bps, now)
                self.carousel.set_rate(self.carousel_bps)
                self._metrics.allocated.labels(self.multiplex).set(bps)
                self._wake.set()
            case ChangedOver():
                self._metrics.changeovers.labels(self.multiplex).inc()

    def _lost(self, now: float, heard_at: float) -> None:
        """Send again what may not have arrived since the multiplexer was last heard, or not have left its queue."""
        since = min(now, heard_at, *(one.drawn_at for one in (*self._on_its_way, *self._queue)))
        self._pacer.set_rate(0, now)
        self.notices.set_rate(0, now)
        self.notices.again(now)
        self._metrics.allocated.labels(self.multiplex).set(0)
        for section in self._queue:
            self._put_back(section)
        self._queue.clear()
        self._packetizer = _packetizer(self.settings)
        self.carousel.resend_since(since - QUEUE_AT_MUX_S, now)


def resend_horizon_s(outlet: Outlet) -> float:
    """How long first transmissions are remembered: a multiplexer that dies silently is noticed only by a test."""
    if isinstance(outlet, StreamSettings):
        return RESEND_HORIZON_S
    silence_s = outlet.test_interval_s + 2 * outlet.answer_timeout_s
    return max(RESEND_HORIZON_S, 2 * (silence_s + QUEUE_AT_MUX_S))


def bytes_on_air(costs: Sequence[int]) -> int:
    """Whole bytes of these costs in bits, as the carousel reckons sizes (1..65,535)."""
    return min(max(-(-sum(costs) // 8), 1), 0xFFFF)


def _packetizer(settings: Outlet) -> SectionPacketizer | None:
    """In packet mode the sections go out in TS packets, whose PID most multiplexers replace by their own."""
    if settings.mode != "packet":
        return None
    return SectionPacketizer(settings.emm_pid or LAST_FREE_PID, Packing(settings.packing))
