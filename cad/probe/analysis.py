"""Listens to a transport stream as a receiver does, to every service at once, and keeps what it hears. Pure.

CAT → EMM PID, PAT → PMTs → ECM PIDs. Nothing that the bytes hold raises an error, and memory is bounded.
"""

from collections import Counter
from typing import Final

from cad.probe.meters import RateMeter, Recent
from cad.probe.sections import CatWatch, EcmWatch, EmmWatch, TableWatch
from protocol.errors import DecodeError
from protocol.mpegts.packet import CAT_PID, NULL_PID, PACKET_SIZE, PAT_PID, PacketSync, packet_pid, parse_packet
from protocol.mpegts.psi import NETWORK_PROGRAM, ProgramMap, ca_pid, parse_pat, parse_pmt
from protocol.mpegts.section import Damage, SectionAssembler

SERVICES_MAX: Final = 256
FORGET_S: Final = 86_400.0
HOUSEKEEPING_S: Final = 60.0
PACKET_BITS: Final = PACKET_SIZE * 8


class ServiceWatch:
    """One service of the PAT: where its PMT and its ECMs are. `ecm_pid` None: its PMT names none of this CA system."""

    def __init__(self, service_id: int, pmt_pid: int) -> None:
        self.service_id = service_id
        self.pmt_pid = pmt_pid
        self.pmt = TableWatch()
        self.ecm_pid: int | None = None


class StreamProbe:
    """Feed it bytes with the time of their arrival; `cad.probe.report` says what it has heard.

    `ca_system_id` None: that of the first entry of the first CAT is taken. `forget_s`: an address that was silent for
    so long is a card that is no longer spoken to. Times in seconds of any clock that does not fall.
    """

    def __init__(self, ca_system_id: int | None, forget_s: float = FORGET_S) -> None:
        self.ca_system_id = ca_system_id
        self.began_at: float | None = None
        self.last_at: float | None = None
        self.now = 0.0
        self.bits = RateMeter()
        self.packets = 0
        self.null_packets = 0
        self.unreadable_packets = 0
        self.lost_datagrams = 0
        self.losses = Recent()
        self.pat = TableWatch()
        self.cat = CatWatch()
        self.emm = EmmWatch()
        self.emm_pid: int | None = None
        self.services: dict[int, ServiceWatch] = {}
        self.ecms: dict[int, EcmWatch] = {}
        self._forget_s = forget_s
        self._sync = PacketSync()
        self._assemblers: dict[int, SectionAssembler] = {}
        self._past_damage: Counter[Damage] = Counter()
        self._losses_seen = 0
        self._next_housekeeping = 0.0
        self._listen()

    @property
    def skipped_bytes(self) -> int:
        """Bytes between packets."""
        return self._sync.skipped

    @property
    def damage(self) -> Counter[Damage]:
        """What was lost on the way from packets to sections, on the PIDs that matter."""
        total = Counter(self._past_damage)
        for assembler in self._assemblers.values():
            total.update(assembler.damage)
        return total

    def feed(self, data: bytes, at: float) -> None:
        """Take bytes of the stream, cut anywhere, that came at this time."""
        self.tick(at)
        packets = self._sync.feed(data)
        if packets:
            self.packets += len(packets)
            self.last_at = self.now
            self.bits.add(self.now, len(packets) * PACKET_BITS)
        for raw in packets:
            self._packet(raw, self.now)

    def lose(self, datagrams: int, at: float) -> None:
        """Note that datagrams are missing (RTP)."""
        self.tick(at)
        self.lost_datagrams += datagrams
        self.losses.add(self.now, datagrams)

    def tick(self, at: float) -> None:
        """Let time pass; listening begins with the first call."""
        self.now = max(self.now, at)
        if self.began_at is None:
            self.began_at = self.now
        if self.now >= self._next_housekeeping:
            self._next_housekeeping = self.now + HOUSEKEEPING_S
            self.emm.settle(self.now)
            self.emm.book.forget(self.now - self._forget_s)

    def settle(self) -> None:
        """Bring everything that is counted in batches up to date; before a report."""
        self.emm.settle(self.now)
        damage = self.damage
        losses = sum(count for why, count in damage.items() if why is not Damage.DUPLICATE)
        self.losses.add(self.now, losses - self._losses_seen)
        self._losses_seen = losses

    def _packet(self, raw: bytes, at: float) -> None:
        pid = packet_pid(raw)
        if pid == NULL_PID:
            self.null_packets += 1
            return
        assembler = self._assemblers.get(pid)
        if assembler is None:
            return
        if pid == self.emm_pid:
            self.emm.bits.add(at, PACKET_BITS)
        try:
            packet = parse_packet(raw)
        except DecodeError:
            self.unreadable_packets += 1
            self.losses.add(at)
            return
        for section in assembler.push(packet):
            self._section(pid, section, at)

    def _section(self, pid: int, section: bytes, at: float) -> None:
        if pid == PAT_PID:
            self._take_pat(section, at)
        elif pid == CAT_PID:
            self._take_cat(section, at)
        elif pid == self.emm_pid:
            self.emm.take(section, at)
        elif pid in self.ecms:
            self.ecms[pid].take(section, at)
        else:
            self._take_pmt(pid, section, at)

    def _take_cat(self, section: bytes, at: float) -> None:
        self.cat.take(section, at)
        if self.ca_system_id is None and self.cat.entries:
            self.ca_system_id = self.cat.entries[0].ca_system_id
            for service in self.services.values():
                service.pmt.last = b""
        found = None if self.ca_system_id is None else self.cat.emm_pid(self.ca_system_id)
        if found != self.emm_pid:
            self.emm_pid = found
            self._listen()

    def _take_pat(self, section: bytes, at: float) -> None:
        if self.pat.repeats(section, at):
            return
        try:
            table = parse_pat(section)
        except DecodeError as error:
            self.pat.faults.add(str(error), at)
            return
        if not table.current:
            return
        self.pat.read(section, at)
        programs = {number: pid for number, pid in table.programs if number != NETWORK_PROGRAM}
        kept = {} if table.last_section_number == 0 else dict(self.services)
        for service_id, pmt_pid in programs.items():
            old = self.services.get(service_id)
            if old is not None and old.pmt_pid == pmt_pid:
                kept[service_id] = old
            elif len(kept) < SERVICES_MAX:
                kept[service_id] = ServiceWatch(service_id, pmt_pid)
        if kept != self.services:
            self.services = kept
            self._listen()

    def _take_pmt(self, pid: int, section: bytes, at: float) -> None:
        sharing = [service for service in self.services.values() if service.pmt_pid == pid]
        if any(service.pmt.repeats(section, at) for service in sharing):
            return
        try:
            table = parse_pmt(section)
        except DecodeError as error:
            for service in sharing:
                service.pmt.faults.add(str(error), at)
            return
        for service in sharing:
            if service.service_id == table.program_number and table.current:
                service.pmt.read(section, at)
                found = self._ecm_pid(table)
                if found != service.ecm_pid:
                    service.ecm_pid = found
                    self._listen()

    def _ecm_pid(self, table: ProgramMap) -> int | None:
        """As receivers do: a CA_descriptor of the programme, else of its first component that has one."""
        if self.ca_system_id is None:
            return None
        listed = (table.descriptors, *(stream.descriptors for stream in table.streams))
        found = (ca_pid(descriptors, self.ca_system_id) for descriptors in listed)
        return next((pid for pid in found if pid is not None), None)

    def _listen(self) -> None:
        """Collect on the PIDs that matter now, and on no others."""
        ecm_pids = {service.ecm_pid for service in self.services.values() if service.ecm_pid is not None}
        self.ecms = {pid: self.ecms.get(pid) or EcmWatch() for pid in ecm_pids}
        pmt_pids = {service.pmt_pid for service in self.services.values()}
        wanted = {PAT_PID, CAT_PID, *pmt_pids, *ecm_pids}
        if self.emm_pid is not None:
            wanted.add(self.emm_pid)
        for pid in self._assemblers.keys() - wanted:
            self._past_damage.update(self._assemblers[pid].damage)
        self._assemblers = {pid: self._assemblers.get(pid) or SectionAssembler() for pid in wanted}
