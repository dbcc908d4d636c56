"""DVB-CSA2 by libdvbcsa (Debian: libdvbcsa1): scrambles and descrambles the payload of transport packets in place."""

import ctypes
import ctypes.util
import functools
import secrets
from collections.abc import Callable

from tests.tools.tv.packets import EVEN, ODD, PACKET_SIZE, payload_at, scrambling, set_scrambling

WORD_SIZE = 8


def fresh_word() -> bytes:
    """A control word as a scrambler's generator makes it: 48 random bits, bytes 3 and 7 left zero."""
    return b"".join(secrets.token_bytes(3) + b"\0" for _ in range(2))


def ready_word(word: bytes) -> bytes:
    """The control word with its checksum bytes, as cipher and descrambler need it."""
    a, b, c, _, d, e, f, _ = word
    return bytes((a, b, c, (a + b + c) % 256, d, e, f, (d + e + f) % 256))


@functools.cache
def _library() -> ctypes.CDLL:
    name = ctypes.util.find_library("dvbcsa") or "libdvbcsa.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise AssertionError(
            "libdvbcsa is missing: apt-get install libdvbcsa1 (make demo-tv and make test do it)"
        ) from error
    library.dvbcsa_key_alloc.restype = ctypes.c_void_p
    library.dvbcsa_key_free.argtypes = [ctypes.c_void_p]
    library.dvbcsa_key_set.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    for cipher in (library.dvbcsa_encrypt, library.dvbcsa_decrypt):
        cipher.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint]
        cipher.restype = None
    return library


class Key:
    """One control word, whole (with its checksums), ready to cipher with."""

    def __init__(self, word: bytes) -> None:
        if len(word) != WORD_SIZE:
            raise ValueError(f"a control word of CSA2 has {WORD_SIZE} bytes, not {len(word)}")
        self._library = _library()
        self._key = self._library.dvbcsa_key_alloc()
        self._library.dvbcsa_key_set(word, self._key)

    def __del__(self) -> None:
        if hasattr(self, "_key"):
            self._library.dvbcsa_key_free(self._key)

    def __repr__(self) -> str:
        return "<Key>"

    def scramble(self, packet: bytes, parity: int) -> bytes:
        """The packet scrambled, and marked EVEN or ODD; as it is where there is no payload.

        The cipher leaves a payload of less than its block of 8 bytes as it is, on both sides.
        """
        assert parity in (EVEN, ODD)
        start = payload_at(packet)
        if start == PACKET_SIZE:
            return packet
        return set_scrambling(packet[:start] + self._run(self._library.dvbcsa_encrypt, packet[start:]), parity)

    def descramble(self, packet: bytes) -> bytes:
        """The packet in clear. It must be marked as scrambled."""
        assert scrambling(packet)
        start = payload_at(packet)
        return set_scrambling(packet[:start] + self._run(self._library.dvbcsa_decrypt, packet[start:]), 0)

    def _run(self, cipher: Callable[..., None], payload: bytes) -> bytes:
        buffer = ctypes.create_string_buffer(payload, len(payload))
        cipher(self._key, buffer, len(payload))
        return buffer.raw
