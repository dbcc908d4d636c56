"""A transport stream with EMMs and the tables that lead to them, cut into datagrams. Pure: time comes as an argument.

Tables that are due go first, then EMMs within their rate, then null packets up to the rate of the whole. Neither rate
is ever exceeded, over any second (I11): what cannot go out in time is left out (null packets) or waits (EMMs).

Source: ISO/IEC 13818-1, 2.4; ETSI TR 101 290, 5.2.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cad.ts_out.emm_queue import EmmQueue
from cad.ts_out.periodic import table
from emm.pacer import PACKET_BITS, Pacer
from protocol.mpegts.packet import CAT_PID, NULL_PACKET, PAT_PID, Packing
from protocol.mpegts.psi import CaDescriptor, ConditionalAccess, ProgramAssociation, build_cat, build_pat

DATAGRAM_MAX_S: Final = 0.1
"""A datagram holds no more than fits this time at the stream's rate: EMMs and tables do not wait for company."""


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """What the stream carries. `stream_bps` counts whole packets; without `transport_stream_id` there is no PAT."""

    ca_system_id: int
    emm_pid: int
    emm_bps: int
    stream_bps: int
    transport_stream_id: int | None = 1
    packing: Packing = Packing.PACKED
    null_packets: bool = True
    packets_per_datagram: int = 7
    burst_s: float = 0.02


@dataclass(slots=True)
class OutputCounts:
    """What has gone out since the start."""

    packets: int = 0
    null_packets: int = 0
    emm_packets: int = 0


class OutputComposer:
    """Composes the datagrams of one stream as time goes on. Times in seconds, of any clock that does not jump."""

    def __init__(self, plan: OutputPlan, now: float) -> None:
        self.plan = plan
        self.counts = OutputCounts()
        self._per_datagram = max(1, min(plan.packets_per_datagram, int(plan.stream_bps * DATAGRAM_MAX_S / PACKET_BITS)))
        # The bucket must hold what gathers from one datagram to the next, or the rate is not reached.
        self._interval_s = self._per_datagram * PACKET_BITS / plan.stream_bps
        hold_s = max(plan.burst_s, 2 * self._interval_s)
        self._stream = Pacer(hold_s)
        self._stream.set_rate(plan.stream_bps, now)
        self._emms = Pacer(hold_s)
        self._emms.set_rate(plan.emm_bps, now)
        self._queue = EmmQueue(plan.emm_pid, plan.packing, announce=True)
        self._tables = [table(CAT_PID, _cat(plan))]
        if plan.transport_stream_id is not None:
            self._tables.append(table(PAT_PID, build_pat(ProgramAssociation(plan.transport_stream_id, ()))))
        self._urgent: deque[bytes] = deque()
        self._last_at = -math.inf

    @property
    def queued_bytes(self) -> int:
        """Bytes of EMMs that wait for their packets."""
        return self._queue.waiting_bytes

    @property
    def empty(self) -> bool:
        """Whether every EMM that was put in has gone out."""
        return self._queue.empty

    def put(self, sections: Iterable[bytes]) -> None:
        """Queue EMM sections; how many may wait is the caller's business."""
        self._queue.put(sections)

    def reset(self) -> None:
        """Forget EMMs that wait, as a stream that has gone down. Counters and rates go on."""
        self._queue.reset()

    def compose(self, now: float) -> list[bytes]:
        """The datagrams whose time has come since the last call, each of whole packets."""
        datagrams: list[bytes] = []
        while packets := self._gather(now):
            self.counts.packets += len(packets)
            datagrams.append(b"".join(packets))
        return datagrams

    def on_wire(self, now: float) -> None:
        """Tell that what was composed has been handed to the network by `now`."""
        self._stream.on_wire(now)
        self._emms.on_wire(now)

    def next_at(self, now: float) -> float:
        """When `compose` should be called again, unless something is put in before."""
        if self.plan.null_packets:
            full = self._stream.next_at(self._per_datagram * PACKET_BITS, now)
            return min(full, max(self._last_at + self._interval_s, self._stream.next_at(PACKET_BITS, now)))
        if self._urgent:
            return self._stream.next_at(PACKET_BITS, now)
        due = min(each.next_at for each in self._tables)
        if not self._queue.empty:
            bits = self._queue.together() * PACKET_BITS
            due = min(due, max(self._emms.next_at(bits, now), self._stream.next_at(PACKET_BITS, now)))
        return max(now, due)

    def _gather(self, now: float) -> list[bytes]:
        """The packets of the next datagram; none while the stream's rate has no room for it."""
        room = min(self._stream.allowance(now) // PACKET_BITS, self._per_datagram)
        # The last second may have no room for a full datagram when its turn comes; a smaller one keeps up the rate.
        if self.plan.null_packets and room < self._per_datagram and now < self._last_at + self._interval_s:
            return []
        for each in self._tables:
            self._urgent.extend(each.due(now))
        packets = self._fill(room, self._emms.allowance(now) // PACKET_BITS, now) if room else []
        if self.plan.null_packets:
            missing = room - len(packets)
            self.counts.null_packets += missing
            packets += [NULL_PACKET] * missing
        if packets:
            self._last_at = now
            self._stream.spend(len(packets) * PACKET_BITS, now)
        return packets

    def _fill(self, room: int, emm_room: int, now: float) -> list[bytes]:
        """Up to `room` packets of tables and EMMs, up to `emm_room` of them EMMs unless one has been begun."""
        queue, packets, emms = self._queue, list[bytes](), 0
        while len(packets) < room:
            unfinished = queue.unfinished
            if self._urgent and not unfinished:
                packets.append(self._urgent.popleft())
                continue
            if not unfinished and not 0 < queue.together() <= emm_room - emms:
                break
            packet = queue.next_packet()
            if packet is None:
                break
            packets.append(packet)
            emms += 1
        self._emms.spend(emms * PACKET_BITS, now)
        self.counts.emm_packets += emms
        return packets


def _cat(plan: OutputPlan) -> bytes:
    return build_cat(ConditionalAccess((CaDescriptor(plan.ca_system_id, plan.emm_pid),)))
