"""The receiver's side of the demo: from a transport stream to the sections that its card is given.

Works as receivers do: CAT → EMM PID of its CA system, section filters as hardware has them, a memory for repeats;
PAT → PMT → ECM PID of the service it is tuned to. Pure: bytes in, callbacks out.
"""

import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from emm.message import EmmKind
from protocol.errors import DecodeError
from protocol.mpegts.packet import CAT_PID, PAT_PID, PacketSync, packet_pid, parse_packet
from protocol.mpegts.psi import ca_pid, parse_cat, parse_pat, parse_pmt
from protocol.mpegts.section import SectionAssembler

FILTER_DEPTH: Final = 16
REPEATS_REMEMBERED: Final = 32


@dataclass(frozen=True, slots=True)
class SectionFilter:
    """What receiver hardware compares: `match` against the first bytes of a section, where `mask` has ones.

    Both have the same length, at most 16 bytes. A section that is shorter than the filter does not pass.
    """

    match: bytes
    mask: bytes

    def __post_init__(self) -> None:
        if len(self.match) != len(self.mask) or len(self.mask) > FILTER_DEPTH:
            raise ValueError(f"match and mask of a section filter are of one length, at most {FILTER_DEPTH} bytes")

    def passes(self, section: bytes) -> bool:
        """Whether the section goes on to the card."""
        if len(section) < len(self.match):
            return False
        return all(have & mask == want & mask for have, want, mask in zip(section, self.match, self.mask, strict=False))


def card_filters(address: int) -> tuple[SectionFilter, ...]:
    """The filters for one card: EMMs for its own address, for its group (without the last byte), for all."""
    own = address.to_bytes(5, "big")
    addressed = {EmmKind.UNIQUE: own, EmmKind.GROUP: own[:-1], EmmKind.GLOBAL: b""}
    return tuple(
        SectionFilter(
            match=bytes([kind, 0, 0]) + prefix,
            # Bytes 1 and 2 hold section_length, which no filter looks at.
            mask=b"\xff\0\0" + b"\xff" * len(prefix),
        )
        for kind, prefix in addressed.items()
    )


class RepeatGuard:
    """Remembers the CRC-32 of the last sections, so that repeats are not given to the card again."""

    def __init__(self, remembered: int = REPEATS_REMEMBERED) -> None:
        self._last: deque[int] = deque(maxlen=remembered)

    def is_repeat(self, section: bytes) -> bool:
        """Whether these very bytes are among the last ones; remembers them if not."""
        crc = zlib.crc32(section)
        if crc in self._last:
            return True
        self._last.append(crc)
        return False


class Receiver:
    """Listens to one transport stream. `on_emm(section)` and `on_ecm(service_id, section)` are called as sections come.

    `counts` tells what became of the sections; `emm_pid`, `pmt_pid`, `ecm_pid` are None until the tables have told.
    """

    def __init__(
        self,
        ca_system_id: int,
        on_emm: Callable[[bytes], None],
        on_ecm: Callable[[int, bytes], None] | None = None,
        filters: Iterable[SectionFilter] = (),
    ) -> None:
        self.filters = tuple(filters)
        self.emm_pid: int | None = None
        self.pmt_pid: int | None = None
        self.ecm_pid: int | None = None
        self.service_id: int | None = None
        self.counts: Counter[str] = Counter()
        self._ca_system_id = ca_system_id
        self._on_emm = on_emm
        self._on_ecm = on_ecm
        self._sync = PacketSync()
        self._assemblers: dict[int, SectionAssembler] = {}
        self._repeats = RepeatGuard()
        self._last_ecm = b""
        self._listen()

    def tune(self, service_id: int | None) -> None:
        """Listen for the ECMs of this service from now on; None = of none."""
        self.service_id = service_id
        self._last_ecm = b""
        self.pmt_pid = self.ecm_pid = None
        self._listen()

    def insert_card(self, filters: Iterable[SectionFilter]) -> None:
        """Another card, other filters; what it has not been given yet is no repeat."""
        self.filters = tuple(filters)
        self._repeats = RepeatGuard()
        self._last_ecm = b""

    def feed(self, data: bytes) -> None:
        """Take bytes of the stream as they come, cut anywhere. Raises nothing for anything that they hold."""
        for raw in self._sync.feed(data):
            pid = packet_pid(raw)
            assembler = self._assemblers.get(pid)
            if assembler is None:
                continue
            try:
                sections = assembler.push(parse_packet(raw))
            except DecodeError:
                self.counts["packets damaged"] += 1
                continue
            for section in sections:
                self._take(pid, section)

    def _take(self, pid: int, section: bytes) -> None:
        try:
            if pid == PAT_PID:
                self._on_pat(section)
            elif pid == CAT_PID:
                self._on_cat(section)
            elif pid == self.pmt_pid:
                self._on_pmt(section)
            elif pid == self.ecm_pid:
                self._give_ecm(section)
            elif pid == self.emm_pid:
                self._give_emm(section)
        except DecodeError:
            self.counts["tables damaged"] += 1

    def _on_pat(self, section: bytes) -> None:
        table = parse_pat(section)
        if table.current and self.service_id is not None:
            found = dict(table.programs).get(self.service_id)
            if found is not None or table.last_section_number == 0:
                self.pmt_pid = found
                self._listen()

    def _on_cat(self, section: bytes) -> None:
        table = parse_cat(section)
        if table.current:
            found = ca_pid(table.descriptors, self._ca_system_id)
            if found is not None or table.last_section_number == 0:
                self.emm_pid = found
                self._listen()

    def _on_pmt(self, section: bytes) -> None:
        table = parse_pmt(section)
        if table.current and table.program_number == self.service_id:
            # A CA_descriptor of the programme holds for all of it, one of a component for that component.
            listed = (table.descriptors, *(stream.descriptors for stream in table.streams))
            found = (ca_pid(descriptors, self._ca_system_id) for descriptors in listed)
            self.ecm_pid = next((pid for pid in found if pid is not None), None)
            self._listen()

    def _give_emm(self, section: bytes) -> None:
        self.counts["EMMs heard"] += 1
        if not any(each.passes(section) for each in self.filters):
            self.counts["EMMs for others"] += 1
        elif self._repeats.is_repeat(section):
            self.counts["EMMs repeated"] += 1
        else:
            self.counts["EMMs given"] += 1
            self._on_emm(section)

    def _give_ecm(self, section: bytes) -> None:
        self.counts["ECMs heard"] += 1
        if section != self._last_ecm and self.service_id is not None and self._on_ecm is not None:
            self._last_ecm = section
            self.counts["ECMs given"] += 1
            self._on_ecm(self.service_id, section)

    def _listen(self) -> None:
        """Collect on the PIDs that matter now, and on no others."""
        wanted = (PAT_PID, CAT_PID, self.emm_pid, self.pmt_pid, self.ecm_pid)
        held = self._assemblers
        self._assemblers = {pid: held.get(pid) or SectionAssembler() for pid in wanted if pid is not None}
