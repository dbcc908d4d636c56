"""The demo multiplexer's transport stream: what goes into which packet, and when. Pure: time comes as an argument.

A constant rate of packets is cut into slots. Tables and ECMs that are due go first, then EMMs up to the rate granted to
them, then null packets. Packed per section, the packets of an EMM follow one another directly.

Source: ISO/IEC 13818-1, 2.4; ETSI TR 101 290, 5.2.1 (PAT and PMT at least every 0.5 s) and 5.2.2 (CAT).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cad.errors import CadError
from cad.ts_out.emm_queue import EmmQueue
from cad.ts_out.periodic import TABLE_INTERVAL_S, Periodic, SectionSource, constant, periodic
from protocol.mpegts.packet import (
    CAT_PID,
    FIRST_FREE_PID,
    LAST_FREE_PID,
    NULL_PACKET,
    PACKET_SIZE,
    PAT_PID,
    Packing,
)
from protocol.mpegts.psi import (
    CaDescriptor,
    ConditionalAccess,
    ElementaryStream,
    ProgramAssociation,
    ProgramMap,
    build_cat,
    build_pat,
    build_pmt,
)

PACKET_BITS: Final = PACKET_SIZE * 8
ECM_INTERVAL_S: Final = 0.1
BACKLOG_MAX_S: Final = 1.0
QUEUE_MIN_BYTES: Final = 16_384
# ISO/IEC 13818-1, table 2-34: a component of private data, in place of the picture that the demo does not carry.
_PRIVATE_DATA: Final = 0x06


class StreamPlanError(CadError):
    """A transport stream that cannot be composed as planned, and why."""


@dataclass(frozen=True, slots=True)
class PlannedService:
    """A service of the stream: its PMT, one component, and where its ECMs come from."""

    service_id: int
    pmt_pid: int
    ecm_pid: int
    component_pid: int
    ecm: SectionSource


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What the stream carries. `rate_bps` counts whole packets; `queue_s`: for how long EMMs may wait at full rate."""

    ca_system_id: int
    emm_pid: int
    transport_stream_id: int = 1
    rate_bps: int = 2_000_000
    services: tuple[PlannedService, ...] = ()
    packing: Packing = Packing.PACKED
    queue_s: float = 2.0

    def __post_init__(self) -> None:
        pids = [self.emm_pid]
        for service in self.services:
            pids += [service.pmt_pid, service.ecm_pid, service.component_pid]
        outside = [pid for pid in pids if not FIRST_FREE_PID <= pid <= LAST_FREE_PID]
        if outside:
            raise StreamPlanError(f"PID {outside[0]:#x} is not free for use; take one from 0x10 to 0x1ffe")
        if len(set(pids)) < len(pids):
            raise StreamPlanError("two streams of packets have the same PID; give each its own")
        if self.rate_bps < 2 * self.tables_bps:
            raise StreamPlanError(
                f"{self.rate_bps} bit/s is too little: tables and ECMs alone take {self.tables_bps} bit/s,"
                " and at least as much must be left"
            )

    @property
    def tables_bps(self) -> int:
        """What tables and ECMs take, where each fits one packet."""
        tables = 2 + len(self.services)
        return int(PACKET_BITS * (tables / TABLE_INTERVAL_S + len(self.services) / ECM_INTERVAL_S))


@dataclass(slots=True)
class StreamCounts:
    """What has become of what was put in, since the start."""

    packets: int = 0
    null_packets: int = 0
    emm_packets: int = 0
    emm_datagrams: int = 0
    emm_datagrams_dropped: int = 0
    slots_skipped: int = 0


class StreamComposer:
    """Composes the packets of one transport stream as time goes on."""

    def __init__(self, plan: StreamPlan, now: float) -> None:
        """`now`: Unix seconds, as in every other call; ECM sources are asked with such times."""
        self.plan = plan
        self.counts = StreamCounts()
        # What has been granted to those who feed the EMM PID; the multiplexer sets it.
        self.emm_rate_bps = plan.rate_bps
        self._began = now
        self._slot = 0
        self._periodic = _periodic(plan)
        self._urgent: deque[bytes] = deque()
        self._queue = EmmQueue(plan.emm_pid, plan.packing)
        self._next_emm_at = now

    @property
    def queued_bytes(self) -> int:
        """Bytes of EMMs that wait for their slot."""
        return self._queue.waiting_bytes

    def put_sections(self, sections: Iterable[bytes]) -> int:
        """Queue EMM sections. Returns how many were dropped because the queue is full; the EMMG is not told."""
        return self._put(sections, packets=False)

    def put_packets(self, packets: Iterable[bytes]) -> int:
        """Queue EMM packets that the EMMG has made; they get PID and continuity counter of this stream.

        Returns how many were dropped. A section that begins in them must also end in them before others are queued.
        """
        return self._put(packets, packets=True)

    def purge(self) -> None:
        """Forget all EMMs that wait, as multiplexers do when an EMMG connects anew."""
        self._queue.purge()

    def compose(self, now: float) -> bytes:
        """All packets whose time has come since the last call; what is later than BACKLOG_MAX_S is skipped."""
        rate = self.plan.rate_bps
        due = int((now - self._began) * rate / PACKET_BITS)
        behind = due - self._slot - int(BACKLOG_MAX_S * rate / PACKET_BITS)
        if behind > 0:
            self.counts.slots_skipped += behind
            self._slot += behind
        packets: list[bytes] = []
        while self._slot < due:
            packets.append(self._fill(self._began + self._slot * PACKET_BITS / rate))
            self._slot += 1
        self.counts.packets += len(packets)
        return b"".join(packets)

    def _put(self, datagrams: Iterable[bytes], *, packets: bool) -> int:
        offered = list(datagrams)
        room = max(QUEUE_MIN_BYTES, self.emm_rate_bps / 8 * self.plan.queue_s)
        dropped = self._queue.put(offered, packets=packets, room_bytes=room)
        self.counts.emm_datagrams += len(offered) - dropped
        self.counts.emm_datagrams_dropped += dropped
        return dropped

    def _fill(self, at: float) -> bytes:
        """The packet of the slot that is on the air at that time."""
        for each in self._periodic:
            self._urgent.extend(each.due(at))
        unfinished = self._queue.unfinished
        if self._urgent and not unfinished:
            return self._urgent.popleft()
        granted = self.emm_rate_bps > 0 and at >= self._next_emm_at
        if (unfinished or granted) and (packet := self._queue.next_packet()) is not None:
            if self.emm_rate_bps > 0:
                # What was not used is lost; a burst after a pause would exceed what was granted.
                spacing_s = PACKET_BITS / self.emm_rate_bps
                self._next_emm_at = max(self._next_emm_at, at - spacing_s) + spacing_s
            self.counts.emm_packets += 1
            return packet
        self.counts.null_packets += 1
        return NULL_PACKET


def _periodic(plan: StreamPlan) -> list[Periodic]:
    programs = tuple((service.service_id, service.pmt_pid) for service in plan.services)
    cat = ConditionalAccess((CaDescriptor(plan.ca_system_id, plan.emm_pid),))
    tables = [
        (PAT_PID, build_pat(ProgramAssociation(plan.transport_stream_id, programs))),
        (CAT_PID, build_cat(cat)),
        *((service.pmt_pid, build_pmt(_program_map(plan, service))) for service in plan.services),
    ]
    ecms = [periodic(service.ecm_pid, ECM_INTERVAL_S, service.ecm) for service in plan.services]
    return [periodic(pid, TABLE_INTERVAL_S, constant(section)) for pid, section in tables] + ecms


def _program_map(plan: StreamPlan, service: PlannedService) -> ProgramMap:
    component = ElementaryStream(_PRIVATE_DATA, service.component_pid)
    return ProgramMap(service.service_id, (component,), (CaDescriptor(plan.ca_system_id, service.ecm_pid),))
