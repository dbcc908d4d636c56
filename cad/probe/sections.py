"""What the probe notes of the sections that it hears: tables, EMMs, ECMs. Pure; times in seconds, rising."""

import struct
from typing import Final

from cad.probe.addresses import AddressBook
from cad.probe.meters import Gaps, RateMeter, Reasons, Recent
from emm.ecm import parse_ecm
from emm.errors import EmmError
from emm.message import (
    FORMAT,
    HEAD_SIZE,
    NOTICE_FORMAT,
    SECTION_MAX,
    TAG_SIZE,
    EmmHeader,
    EmmKind,
    head_packer,
    parse_emm,
)
from protocol import card_number
from protocol.errors import DecodeError
from protocol.mpegts.psi import CaDescriptor, ConditionalAccess, ca_pid, parse_cat

# ETSI TR 101 290, 5.2.1 and 5.2.2: PAT, CAT and PMT at least every 0.5 s.
TABLE_LIMIT_S: Final = 0.5
# Receivers that change channel wait for the next ECM; multiplexers repeat them every 0.1 s.
ECM_LIMIT_S: Final = 0.5

_AFTER_ADDRESS: Final = 9
"""Bytes of an EMM's header from its format on."""

_HEADS: Final[dict[int, tuple[EmmKind, struct.Struct, int]]] = {
    int(kind): (kind, head_packer(kind), HEAD_SIZE[kind] + TAG_SIZE) for kind in EmmKind
}


class Faults:
    """Sections that are not what they should be, by reason, and how many of them lately."""

    def __init__(self) -> None:
        self.reasons = Reasons()
        self.recent = Recent()

    def add(self, reason: str, at: float) -> None:
        """Count one."""
        self.reasons.add(reason)
        self.recent.add(at)


class TableWatch:
    """How often a table comes, and how often its sections cannot be read."""

    def __init__(self) -> None:
        self.gaps = Gaps(TABLE_LIMIT_S)
        self.faults = Faults()
        self.last = b""

    def repeats(self, section: bytes, at: float) -> bool:
        """Whether these very bytes were read last; then they need not be read again."""
        if section != self.last:
            return False
        self.read(section, at)
        return True

    def read(self, section: bytes, at: float) -> None:
        """Note a whole section of the table; the table comes again with its first one (section_number 0)."""
        self.last = section
        if section[6] == 0:
            self.gaps.add(at)


class CatWatch(TableWatch):
    """The CAT: where it says that the EMMs are."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[int, ConditionalAccess] = {}
        self.changes = -1
        self._held: tuple[object, ...] | None = None

    def take(self, section: bytes, at: float) -> None:
        """Read one section on the CAT's PID."""
        if self.repeats(section, at):
            return
        try:
            table = parse_cat(section)
        except DecodeError as error:
            self.faults.add(str(error), at)
            return
        if not table.current:
            return
        self.read(section, at)
        if any(other.version_number != table.version_number for other in self.tables.values()):
            self.tables.clear()
        self.tables[table.section_number] = table
        held = (table.version_number, self.entries)
        if len(self.tables) == table.last_section_number + 1 and held != self._held:
            self._held = held
            self.changes += 1

    @property
    def entries(self) -> tuple[CaDescriptor, ...]:
        """Every CA_descriptor that holds."""
        tables = [self.tables[number] for number in sorted(self.tables)]
        return tuple(one for table in tables for one in table.descriptors if isinstance(one, CaDescriptor))

    def emm_pid(self, ca_system_id: int) -> int | None:
        """The PID that a receiver of this CA system takes."""
        return ca_pid(self.entries, ca_system_id)


class EmmWatch:
    """The EMM PID: rate, addresses, what is malformed."""

    def __init__(self) -> None:
        self.bits = RateMeter()
        self.sections = RateMeter()
        self.gaps = Gaps(limit_s=10.0)
        self.book = AddressBook()
        self.faults = Faults()
        self.falls = Recent()
        self.notices = 0
        self.periods: dict[int, float] = {}

    def take(self, section: bytes, at: float) -> None:
        """Read one section on the EMM PID."""
        self.sections.add(at, 1)
        if _is_notice(section):
            self._take_notice(section, at)
            return
        try:
            kind, address, part, last_part, period, revision = read_emm(section)
        except EmmError as error:
            self.faults.add(str(error), at)
            return
        self.gaps.add(at)
        self.periods[period] = at
        if len(self.periods) > 16:
            del self.periods[min(self.periods, key=lambda one: self.periods[one])]
        self.book.hear(kind, address, part, last_part, period << 32 | revision, at)

    def _take_notice(self, section: bytes, at: float) -> None:
        """A notice is no state of a card: it has no version that could fall, and nobody waits for its repetition."""
        try:
            parse_emm(section)
        except EmmError as error:
            self.faults.add(str(error), at)
            return
        self.notices += 1
        self.gaps.add(at)

    def settle(self, now: float) -> None:
        """Bring what is worked out in batches up to date."""
        before = self.falls.total
        self.book.settle()
        self.falls.add(now, self.book.fallen - before)


class EcmWatch:
    """One ECM PID: how often ECMs come, how long control words live, what is malformed.

    `period`: times between changes of parity, which are changes of the control word.
    """

    def __init__(self) -> None:
        self.repeats = Gaps(ECM_LIMIT_S)
        self.period = Gaps(limit_s=float("inf"))
        self.shortest_period_s: float | None = None
        self.last_period_s: float | None = None
        self.faults = Faults()
        self.service_ids: set[int] = set()
        self.epoch: int | None = None
        self.product_ids: tuple[int, ...] = ()
        self.stated_time: int | None = None
        self.stated_at: float | None = None
        self._last = b""

    def take(self, section: bytes, at: float) -> None:
        """Read one section on the ECM PID; repeats are only counted."""
        if section == self._last:
            self.repeats.add(at)
            return
        try:
            ecm = parse_ecm(section)
        except EmmError as error:
            self.faults.add(str(error), at)
            return
        if self._last and self._last[0] != section[0]:
            self._toggle(at)
        self._last = section
        self.repeats.add(at)
        if len(self.service_ids) < 16:
            self.service_ids.add(ecm.header.service_id)
        self.epoch, self.product_ids = ecm.header.epoch, ecm.product_ids
        self.stated_time, self.stated_at = ecm.header.time, at

    def _toggle(self, at: float) -> None:
        if self.period.last_at is not None:
            lasted = at - self.period.last_at
            self.last_period_s = lasted
            shortest = self.shortest_period_s
            self.shortest_period_s = lasted if shortest is None else min(shortest, lasted)
        self.period.add(at)


def _is_notice(section: bytes) -> bool:
    found = _HEADS.get(section[0]) if section else None
    if found is None:
        return False
    format_at = HEAD_SIZE[found[0]] - _AFTER_ADDRESS
    return len(section) > format_at and section[format_at] == NOTICE_FORMAT


def read_emm(section: bytes) -> tuple[EmmKind, int, int, int, int, int]:
    """Kind, address, part, last part, period, revision: what `parse_emm` says, faster. Raises `DecodeError` as it."""
    found = _HEADS.get(section[0]) if section else None
    size = len(section)
    if found is not None and found[2] <= size <= SECTION_MAX:
        kind, head, _ = found
        fields = head.unpack_from(section)
        length, (form, _, period, revision, parts) = fields[1], fields[-5:]
        address = fields[2] << 8 | fields[3] if kind is EmmKind.UNIQUE else fields[2] if kind is EmmKind.GROUP else 0
        part, last_part = parts >> 4, parts & 0x0F
        whole = not length & 0x8000 and (length & 0x0FFF) + 3 == size
        if whole and form == FORMAT and part <= last_part and address <= card_number.ADDRESS_MAX:
            return kind, address, part, last_part, period, revision
    return _spelled(parse_emm(section).header)


def _spelled(header: EmmHeader) -> tuple[EmmKind, int, int, int, int, int]:
    version = header.version
    return header.kind, header.address, header.part, header.last_part, version.period, version.revision
