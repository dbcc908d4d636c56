"""EMMs and notices read by docs/emm.md and docs/notices.md alone, with the reference's keys and ciphers."""

import struct
from dataclasses import dataclass

from tests.support import reference_formats as reference
from tests.support.headend_model.content import key_epoch

UNIQUE, GROUP, GLOBAL = 0x82, 0x84, 0x88
ADDRESS_SIZE = {UNIQUE: 5, GROUP: 4, GLOBAL: 0}
STATE_FORMAT, NOTICE_FORMAT = 1, 2
KEY_VERSION = 1
EmmName = tuple[int, int, int]
"""table_id, address, and of a notice its number, else 0."""


@dataclass(frozen=True)
class Header:
    """What stands in clear. `revision` of a notice is its number."""

    table_id: int
    address: int
    format: int
    period: int
    revision: int
    part: int
    last: int

    @property
    def version(self) -> tuple[int, int]:
        return self.period, self.revision

    @property
    def emm(self) -> EmmName:
        return self.table_id, self.address, self.revision if self.format == NOTICE_FORMAT else 0


@dataclass(frozen=True)
class Rights:
    """A block RIGHTS, its keys verified."""

    start: int
    end: int
    first_epoch: int
    key_count: int
    products: tuple[int, ...]

    def opens(self, product: int, at: int) -> bool:
        """Whether it opens an ECM of a product that is made at a time."""
        in_time = self.start <= at < self.end
        return in_time and product in self.products and 0 <= key_epoch(at) - self.first_epoch < self.key_count


@dataclass(frozen=True)
class Said:
    """All that the EMM of a card says."""

    suspended: bool
    rights: tuple[Rights, ...]
    receiver: int | None = None
    region: int = 0
    level: int = 0
    pin_reset: int = 0

    def opens(self, product: int, at: int) -> bool:
        return any(block.opens(product, at) for block in self.rights)


@dataclass(frozen=True)
class NoticePart:
    """A part of a notice: for which cards, and its piece of the content."""

    cards: frozenset[int]
    piece: bytes


def read_header(section: bytes) -> Header:
    """Read what stands in clear."""
    size = ADDRESS_SIZE[section[0]]
    form, key_version, period, revision, part = struct.unpack_from(">BBHIB", section, 3 + size)
    assert key_version == KEY_VERSION
    address = int.from_bytes(section[3 : 3 + size], "big")
    return Header(section[0], address, form, period, revision, *divmod(part, 16))


def read_emm(master: bytes, sections: tuple[bytes, ...]) -> Said:
    """Open all parts of a card's EMM; what stands in them may stand there just once, but for rights."""
    blocks: dict[int, list[bytes]] = {}
    states = set()
    for section in sections:
        plain = open_section(master, section)
        states.add(plain[0])
        for tag, value in read_blocks(plain):
            blocks.setdefault(tag, []).append(value)
    (state,) = states
    rights = tuple(read_rights(master, value) for value in blocks.pop(1, ()))
    assert not (state == 1 and rights), "a suspended card holds no right"
    said: dict[str, int] = {}
    for tag, name in {2: "receiver", 3: "region", 4: "level", 0xA0: "pin_reset"}.items():
        if tag in blocks:
            (value,) = blocks.pop(tag)
            said[name] = int.from_bytes(value[:8] if tag == 2 else value, "big")
            if tag == 2:
                assert value[8:] == reference.pair_key(master, said[name], read_header(sections[0]).address)
    assert not blocks, f"blocks that no page names: {sorted(blocks)}"
    return Said(state == 1, rights, **said)


def read_rights(master: bytes, value: bytes) -> Rights:
    """Read a block RIGHTS; each key must be that of its product and epoch."""
    start, end, first, keys = struct.unpack_from(">IIHB", value)
    products = []
    for place in range(11, len(value), 2 + 16 * keys):
        (product,) = struct.unpack_from(">H", value, place)
        for number in range(keys):
            key = value[place + 2 + 16 * number : place + 18 + 16 * number]
            assert key == reference.product_key(master, product, first + number)
        products.append(product)
    return Rights(start, end, first, keys, tuple(products))


def read_notice(master: bytes, section: bytes) -> NoticePart:
    """Open a part of a notice."""
    header = read_header(section)
    plain = open_section(master, section)
    assert (plain[0], header.period) == (0, 0)
    pieces, cards = [], {header.address} if header.table_id == UNIQUE else set()
    for tag, value in read_blocks(plain):
        if tag == 0x10 and header.table_id == GLOBAL:
            cards |= {*range(int.from_bytes(value[:5], "big"), int.from_bytes(value[5:], "big") + 1)}
        elif tag == 0x11 and header.table_id == GROUP:
            cards |= {header.address << 8 | card for card in range(256) if value[card // 8] << card % 8 & 0x80}
        else:
            assert tag == 0x90
            pieces.append(value)
    (piece,) = pieces
    return NoticePart(frozenset(cards), piece)


def open_section(master: bytes, section: bytes) -> bytes:
    """Return the payload of an EMM of any kind and format."""
    header = read_header(section)
    key = {
        UNIQUE: lambda: reference.card_key(master, header.address, KEY_VERSION),
        GROUP: lambda: reference.group_key(master, header.address, KEY_VERSION),
        GLOBAL: lambda: reference.global_key(master, KEY_VERSION),
    }[header.table_id]()
    tag_at = 12 + ADDRESS_SIZE[header.table_id]
    return reference.siv_open(key, [section[:tag_at]], section[tag_at:])


def read_blocks(plain: bytes) -> list[tuple[int, bytes]]:
    """Return (tag, value) of each block of a payload, which they fill."""
    found, at = [], 2
    for _ in range(plain[1]):
        size = plain[at + 1]
        found.append((plain[at], plain[at + 2 : at + 2 + size]))
        at += 2 + size
    assert at == len(plain)
    return found
