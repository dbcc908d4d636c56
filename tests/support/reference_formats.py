"""A second implementation of keys, EMM and ECM, from docs/emm.md and docs/ecm.md alone: plain struct and raw AES.

It shares nothing with the packages under test, so that a vector is never judged by the code that made it.
"""

import struct
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

ZERO = bytes(16)


class RefusedError(Exception):
    """The tag does not verify."""


# --- AES and its modes -------------------------------------------------------------------------------------------


def aes_encrypt(key: bytes, block: bytes) -> bytes:
    return Cipher(AES(key), ECB()).encryptor().update(block)


def aes_decrypt(key: bytes, block: bytes) -> bytes:
    return Cipher(AES(key), ECB()).decryptor().update(block)


def xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def double(block: bytes) -> bytes:
    """Multiplication by x in GF(2^128), RFC 5297 section 2.3."""
    value = int.from_bytes(block, "big") << 1
    if value >> 128:
        value = (value & ((1 << 128) - 1)) ^ 0x87
    return value.to_bytes(16, "big")


def cmac(key: bytes, message: bytes) -> bytes:
    """RFC 4493, section 2.4 (for any AES key size)."""
    k1 = double(aes_encrypt(key, ZERO))
    full, rest = divmod(len(message), 16)
    if message and not rest:
        full -= 1
        last = xor(message[-16:], k1)
    else:
        last = xor((message[full * 16 :] + b"\x80").ljust(16, b"\x00"), double(k1))
    state = ZERO
    for index in range(full):
        state = aes_encrypt(key, xor(state, message[index * 16 : index * 16 + 16]))
    return aes_encrypt(key, xor(state, last))


def s2v(key: bytes, strings: Sequence[bytes]) -> bytes:
    """RFC 5297, section 2.4; the last string is the plaintext."""
    state = cmac(key, ZERO)
    for string in strings[:-1]:
        state = xor(double(state), cmac(key, string))
    last = strings[-1]
    if len(last) >= 16:
        return cmac(key, last[:-16] + xor(last[-16:], state))
    return cmac(key, xor(double(state), (last + b"\x80").ljust(16, b"\x00")))


def ctr(key: bytes, siv: bytes, data: bytes) -> bytes:
    counter = int.from_bytes(siv, "big") & ~(1 << 63) & ~(1 << 31)
    out = b""
    for start in range(0, len(data), 16):
        block = aes_encrypt(key, counter.to_bytes(16, "big"))
        out += bytes(a ^ b for a, b in zip(data[start : start + 16], block, strict=False))
        counter = (counter + 1) % (1 << 128)
    return out


def siv_seal(key: bytes, associated_data: Sequence[bytes], plaintext: bytes) -> bytes:
    """V ‖ C of RFC 5297, section 2.6."""
    half = len(key) // 2
    siv = s2v(key[:half], [*associated_data, plaintext])
    return siv + ctr(key[half:], siv, plaintext)


def siv_open(key: bytes, associated_data: Sequence[bytes], sealed: bytes) -> bytes:
    """RFC 5297, section 2.7."""
    half = len(key) // 2
    plaintext = ctr(key[half:], sealed[:16], sealed[16:])
    if s2v(key[:half], [*associated_data, plaintext]) != sealed[:16]:
        raise RefusedError
    return plaintext


def kdf(key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """SP 800-108 revision 1, clause 4.1 with AES-CMAC."""
    out = b""
    counter = 1
    while len(out) < size:
        out += cmac(key, struct.pack(">I", counter) + label + b"\x00" + context + struct.pack(">I", 8 * size))
        counter += 1
    return out[:size]


# --- key ladder --------------------------------------------------------------------------------------------------


def card_key(master: bytes, address: int, key_version: int) -> bytes:
    return kdf(master, b"cad card key", struct.pack(">IBB", address >> 8, address & 255, key_version), 32)


def group_key(master: bytes, group: int, key_version: int) -> bytes:
    return kdf(master, b"cad group key", struct.pack(">IB", group, key_version), 32)


def global_key(master: bytes, key_version: int) -> bytes:
    return kdf(master, b"cad global key", struct.pack(">B", key_version), 32)


def product_key(master: bytes, product_id: int, epoch: int) -> bytes:
    return kdf(master, b"cad product key", struct.pack(">HH", product_id, epoch), 16)


def audit_key(master: bytes) -> bytes:
    return kdf(master, b"cad audit key", b"", 32)


def pairing_key(master: bytes, receiver: int) -> bytes:
    return kdf(master, b"cad pairing key", struct.pack(">Q", receiver), 32)


def pair_key(master: bytes, receiver: int, address: int) -> bytes:
    return kdf(pairing_key(master, receiver), b"cad pair key", struct.pack(">IB", address >> 8, address & 255), 16)


# --- EMM ---------------------------------------------------------------------------------------------------------


def rights_block(master: bytes, start: int, end: int, first_epoch: int, key_count: int, products: list[int]) -> bytes:
    value = struct.pack(">IIHB", start, end, first_epoch, key_count)
    for product in products:
        value += struct.pack(">H", product)
        for epoch in range(first_epoch, first_epoch + key_count):
            value += product_key(master, product, epoch)
    return struct.pack(">BB", 1, len(value)) + value


def pairing_block(master: bytes, receiver: int, address: int) -> bytes:
    return struct.pack(">BBQ", 2, 24, receiver) + pair_key(master, receiver, address)


def parental_block(age: int) -> bytes:
    return bytes([4, 1, age])


def region_block(region: int) -> bytes:
    return struct.pack(">BBH", 3, 2, region)


def pin_reset_block(mark: int) -> bytes:
    return struct.pack(">BBI", 0xA0, 4, mark)


def payload(state: int, blocks: Sequence[bytes]) -> bytes:
    return struct.pack(">BB", state, len(blocks)) + b"".join(blocks)


def emm(
    table_id: int,
    address: bytes,
    key_version: int,
    period: int,
    revision: int,
    part: int,
    last: int,
    key: bytes,
    plain: bytes,
    form: int = 1,
) -> bytes:
    tail = struct.pack(">BBHIB", form, key_version, period, revision, part << 4 | last)
    length = len(address) + len(tail) + 16 + len(plain)
    head = struct.pack(">BH", table_id, 0x7000 | length) + address + tail
    return head + siv_seal(key, [head], plain)


def unique_emm(
    master: bytes, address: int, key_version: int, period: int, revision: int, part: int, last: int, plain: bytes
) -> bytes:
    return emm(
        0x82,
        address.to_bytes(5, "big"),
        key_version,
        period,
        revision,
        part,
        last,
        card_key(master, address, key_version),
        plain,
    )


def open_unique_emm(master: bytes, section: bytes) -> bytes:
    head, sealed = section[:17], section[17:]
    return siv_open(card_key(master, int.from_bytes(head[3:8], "big"), head[9]), [head], sealed)


# --- notices (docs/notices.md) ------------------------------------------------------------------------------------


def message_content(forced: bool, start: int, end: int, texts: dict[str, str]) -> bytes:
    out = struct.pack(">BIIB", int(forced), start, end, len(texts))
    for language, text in texts.items():
        tag, words = language.encode(), text.encode()
        out += struct.pack(">B", len(tag)) + tag + struct.pack(">H", len(words)) + words
    return out


def fingerprint_content(start: int, end: int, duration_s: int, service_id: int, position: int) -> bytes:
    return struct.pack(">BIIHHB", 2, start, end, duration_s, service_id, position)


def notice_payloads(table_id: int, block: bytes, content: bytes) -> list[bytes]:
    """One payload for each part: `block` says whom it addresses, empty for one card."""
    head = {0x82: 17, 0x84: 16, 0x88: 12}[table_id]
    room = 255 - head - 16 - 2 - len(block) - 2
    pieces = [content[at : at + room] for at in range(0, len(content), room)]
    return [payload(0, [*([block] if block else []), b"\x90" + bytes([len(piece)]) + piece]) for piece in pieces]


def ranges_block(ranges: Sequence[Sequence[int]]) -> bytes:
    value = b"".join(first.to_bytes(5, "big") + last.to_bytes(5, "big") for first, last in ranges)
    return bytes([0x10, len(value)]) + value


def members_block(addresses: Sequence[int]) -> bytes:
    bits = [[0] * 8 for _ in range(32)]
    for address in addresses:
        bits[address % 256 // 8][address % 8] = 1
    return bytes([0x11, 32]) + bytes(int("".join(map(str, byte)), 2) for byte in bits)


# --- ECM ---------------------------------------------------------------------------------------------------------


def ecm(
    master: bytes,
    table_id: int,
    time: int,
    service_id: int,
    epoch: int,
    products: Sequence[int],
    words: Sequence[bytes],
    session_key: bytes,
    regions: Sequence[int] = (),
) -> bytes:
    body = struct.pack(">BIHHB", 2 if regions else 1, time, service_id, epoch, len(products))
    for product in products:
        body += struct.pack(">H", product) + aes_decrypt(product_key(master, product, epoch), session_key)
    body += struct.pack(">B", len(words) << 4 | {8: 0, 16: 1}[len(words[0])])
    if regions:
        body += struct.pack(f">B{len(regions)}H", len(regions), *regions)
    plain = b"".join(words)
    head = struct.pack(">BH", table_id, 0x7000 | (len(body) + 16 + len(plain))) + body
    return head + siv_seal(kdf(session_key, b"cad ecm key", struct.pack(">H", epoch), 32), [head], plain)


def open_ecm(section: bytes, product_id: int, product_key: bytes) -> list[bytes]:
    """The control words for the holder of one product key, as a card computes them: with the forward cipher only."""
    count = section[12]
    epoch = section[10:12]
    for index in range(count):
        at = 13 + index * 18
        if section[at : at + 2] == struct.pack(">H", product_id):
            session_key = aes_encrypt(product_key, section[at + 2 : at + 18])
            break
    else:
        raise RefusedError
    info = section[13 + count * 18]
    end = 14 + count * 18
    if section[3] == 2:
        end += 1 + 2 * section[end]
    head, sealed = section[:end], section[end:]
    plain = siv_open(kdf(session_key, b"cad ecm key", epoch, 32), [head], sealed)
    size = 16 if info & 15 else 8
    return [plain[at : at + size] for at in range(0, len(plain), size)]


# --- control words of a paired card ------------------------------------------------------------------------------


def sealed_words(pair: bytes, word_info: int, ecm_tag: bytes, words: Sequence[bytes]) -> bytes:
    """What a paired card answers to an ECM with that tag."""
    info = bytes([word_info | 8])
    return info + siv_seal(kdf(pair, b"cad sealed words", b"", 32), [info + ecm_tag], b"".join(words))
