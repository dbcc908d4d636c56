"""A second SCP03, written from the specification's text with the raw block cipher alone, for both ends and modes.

It shares nothing with `cards`: CMAC, CBC and padding are its own, APDUs are bytes. Short and slow on purpose.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def aes(key: bytes, block: bytes) -> bytes:
    """One block through the cipher."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update(block)


def xor(left: bytes, right: bytes) -> bytes:
    """Byte by byte."""
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def cmac(key: bytes, message: bytes) -> bytes:
    """RFC 4493 clause 2.4, spelled out."""

    def double(block: bytes) -> bytes:
        shifted = int.from_bytes(block, "big") << 1
        if shifted >> 128:
            shifted = shifted & (1 << 128) - 1 ^ 0x87
        return shifted.to_bytes(16, "big")

    first = double(aes(key, bytes(16)))
    blocks = [message[i : i + 16] for i in range(0, len(message), 16)] or [b""]
    last = blocks.pop()
    last = xor(last, first) if len(last) == 16 else xor((last + b"\x80").ljust(16, b"\0"), double(first))
    state = bytes(16)
    for block in [*blocks, last]:
        state = aes(key, xor(state, block))
    return state


def cbc(key: bytes, initial: bytes, data: bytes) -> bytes:
    """Encrypt whole blocks."""
    out = b""
    for i in range(0, len(data), 16):
        initial = aes(key, xor(data[i : i + 16], initial))
        out += initial
    return out


def kdf(key: bytes, constant: int, context: bytes, size: int) -> bytes:
    """Amendment D clause 4.1.5, `size` in bytes."""
    out = b""
    counter = 0
    while len(out) < size:
        counter += 1
        out += cmac(
            key, bytes(11) + bytes([constant]) + b"\0" + (size * 8).to_bytes(2, "big") + bytes([counter]) + context
        )
    return out[:size]


@dataclass
class ReferenceSession:
    """The session of one pair of challenges; `width` is 8 (S8) or 16 (S16). Call in the order of the wire."""

    enc: bytes
    mac: bytes
    host_challenge: bytes
    card_challenge: bytes
    level: int
    chain: bytes = bytes(16)
    counter: int = 0
    s_enc: bytes = field(init=False)
    s_mac: bytes = field(init=False)
    s_rmac: bytes = field(init=False)

    def __post_init__(self) -> None:
        context = self.host_challenge + self.card_challenge
        self.width = len(self.host_challenge)
        self.s_enc = kdf(self.enc, 4, context, len(self.enc))
        self.s_mac = kdf(self.mac, 6, context, len(self.mac))
        self.s_rmac = kdf(self.mac, 7, context, len(self.mac))
        self.card_cryptogram = kdf(self.s_mac, 0, context, self.width)
        self.host_cryptogram = kdf(self.s_mac, 1, context, self.width)

    def external_authenticate(self) -> bytes:
        """The whole command."""
        head = bytes([0x84, 0x82, self.level, 0, 2 * self.width])
        self.chain = cmac(self.s_mac, bytes(16) + head + self.host_cryptogram)
        return head + self.host_cryptogram + self.chain[: self.width]

    def command(self, header: bytes, data: bytes, le: bytes) -> bytes:
        """A command of class 8x with short lengths under the level."""
        self.counter += 1
        if not self.level & 1:
            return header + (bytes([len(data)]) + data if data else b"") + le
        if data and self.level & 2:
            padded = data + b"\x80"
            padded += bytes(-len(padded) % 16)
            data = cbc(self.s_enc, aes(self.s_enc, self.counter.to_bytes(16, "big")), padded)
        head = bytes([header[0] | 4]) + header[1:]
        length = len(data) + self.width
        lc = bytes([length]) if length < 256 else b"\0" + length.to_bytes(2, "big")
        self.chain = cmac(self.s_mac, self.chain + head + lc + data)
        return head + lc + data + self.chain[: self.width] + le

    def response(self, data: bytes, sw: bytes) -> bytes:
        """The protected response to the last command, as the card sends it; `sw` is 9000 or a warning."""
        if self.level & 0x20 and data:
            padded = data + b"\x80"
            padded += bytes(-len(padded) % 16)
            icv = aes(self.s_enc, b"\x80" + self.counter.to_bytes(15, "big"))
            data = cbc(self.s_enc, icv, padded)
        if self.level & 0x10:
            data += cmac(self.s_rmac, self.chain + data + sw)[: self.width]
        return data + sw
