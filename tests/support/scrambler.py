"""A strict SCS, the scrambler's end of ECMG⇔SCS, for tests: written with plain struct, never with the code under test.

    async with StrictScrambler("127.0.0.1", port, 0x4A750000) as scs:
        status = await scs.open_channel()
        await scs.open_stream(1)
        ecm = await scs.order(1, 7, {7: word, 8: next_word}, criteria)   # a section, or TS packets

Whatever the ECMG says is checked: version, type, every parameter's presence, count, length and value, ids, what an
ECM looks like, and that its table_id toggles with the crypto-period. What is wrong raises AssertionError. An error of
the ECMG raises `EcmgError`. `send` and `hear` speak without this help, `raw` says any bytes.
"""

import asyncio
import struct
import time
from collections.abc import Mapping
from typing import Self

CHANNEL_SETUP, CHANNEL_TEST, CHANNEL_STATUS, CHANNEL_CLOSE, CHANNEL_ERROR = 1, 2, 3, 4, 5
STREAM_SETUP, STREAM_TEST, STREAM_STATUS, CLOSE_REQUEST, CLOSE_RESPONSE = 0x101, 0x102, 0x103, 0x104, 0x105
STREAM_ERROR, CW_PROVISION, ECM_RESPONSE = 0x106, 0x201, 0x202

SUPER_CAS_ID, FLAG, DELAY_START, DELAY_STOP, TRANSITION_START, TRANSITION_STOP = 1, 2, 3, 4, 5, 6
REP_PERIOD, MAX_STREAMS, MIN_CP, LEAD_CW, CW_PER_MSG, MAX_COMP_TIME = 7, 8, 9, 0x0A, 0x0B, 0x0C
ACCESS_CRITERIA, CHANNEL_ID, STREAM_ID, NOMINAL_CP, AC_MODE, CP_NUMBER = 0x0D, 0x0E, 0x0F, 0x10, 0x11, 0x12
CP_DURATION, CP_CW, ECM, AC_DELAY_START, AC_DELAY_STOP, ECM_ID = 0x13, 0x14, 0x15, 0x16, 0x17, 0x19
ERROR_STATUS, ERROR_INFORMATION = 0x7000, 0x7001

SIZES = {
    **dict.fromkeys((CHANNEL_ID, STREAM_ID, NOMINAL_CP, CP_NUMBER, CP_DURATION, ECM_ID, ERROR_STATUS), ">H"),
    **dict.fromkeys((DELAY_START, DELAY_STOP, TRANSITION_START, TRANSITION_STOP, AC_DELAY_START, AC_DELAY_STOP), ">h"),
    **dict.fromkeys((REP_PERIOD, MAX_STREAMS, MIN_CP, MAX_COMP_TIME), ">H"),
    **dict.fromkeys((FLAG, LEAD_CW, CW_PER_MSG, AC_MODE), ">B"),
    SUPER_CAS_ID: ">I",
}
REPEATED = {ERROR_STATUS, ERROR_INFORMATION}
# What an ECMG may say: (mandatory, optional).
GRAMMAR = {
    CHANNEL_TEST: ({CHANNEL_ID}, set()),
    CHANNEL_STATUS: (
        {
            CHANNEL_ID,
            FLAG,
            DELAY_START,
            DELAY_STOP,
            REP_PERIOD,
            MAX_STREAMS,
            MIN_CP,
            LEAD_CW,
            CW_PER_MSG,
            MAX_COMP_TIME,
        },
        {TRANSITION_START, TRANSITION_STOP, AC_DELAY_START, AC_DELAY_STOP},
    ),
    CHANNEL_CLOSE: ({CHANNEL_ID}, set()),
    CHANNEL_ERROR: ({CHANNEL_ID, ERROR_STATUS}, {ERROR_INFORMATION}),
    STREAM_TEST: ({CHANNEL_ID, STREAM_ID}, set()),
    STREAM_STATUS: ({CHANNEL_ID, STREAM_ID, ECM_ID, AC_MODE}, set()),
    CLOSE_RESPONSE: ({CHANNEL_ID, STREAM_ID}, set()),
    STREAM_ERROR: ({CHANNEL_ID, STREAM_ID, ERROR_STATUS}, {ERROR_INFORMATION}),
    ECM_RESPONSE: ({CHANNEL_ID, STREAM_ID, CP_NUMBER, ECM}, set()),
}
ERRORS = {*range(1, 0x16), 0x7000, 0x7001}
Value = int | bytes
Fields = dict[int, list[Value]]


class EcmgError(Exception):
    """The ECMG answered with an error."""

    def __init__(self, kind: int, status: int, information: bytes = b"") -> None:
        super().__init__(f"message 0x{kind:04X}, error_status 0x{status:04X} {information.hex()}")
        self.kind = kind
        self.status = status
        self.information = information


class StrictScrambler:
    """One connection with one channel. `source`: the local address it comes from. Times out after `patience_s`."""

    def __init__(
        self,
        host: str,
        port: int,
        super_cas_id: int,
        *,
        version: int = 3,
        channel_id: int = 1,
        source: str | None = None,
        patience_s: float = 10.0,
    ) -> None:
        self.host = host
        self.port = port
        self.super_cas_id = super_cas_id
        self.version = version
        self.channel_id = channel_id
        self.status: dict[int, int] = {}
        self.conversation: list[tuple[float, str, bytes]] = []  # (Unix time, "up" | "down", bytes), as pcap wants it
        self._source = source
        self._patience_s = patience_s
        self._held = b""

    async def __aenter__(self) -> Self:
        local = (self._source, 0) if self._source else None
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port, local_addr=local)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    # The helpful way.

    async def open_channel(self) -> dict[int, int]:
        """Set up the channel and return channel_status by parameter."""
        self.send(CHANNEL_SETUP, [(CHANNEL_ID, self.channel_id), (SUPER_CAS_ID, self.super_cas_id)])
        self.status = numbers(await self.expect(CHANNEL_STATUS))
        assert self.status[FLAG] in (0, 1)
        # Clause 5.3: an ECM that goes on the air more than half a crypto-period off its own is of no use.
        assert abs(self.status[DELAY_START]) * 2 <= self.status[MIN_CP] * 100
        assert self.status[REP_PERIOD]
        assert self.status[CW_PER_MSG]
        return self.status

    async def open_stream(self, stream_id: int, ecm_id: int | None = None, cp_duration: int = 100) -> None:
        """Set up a stream; durations in units of 100 ms."""
        ecm = stream_id if ecm_id is None else ecm_id
        ids = [(CHANNEL_ID, self.channel_id), (STREAM_ID, stream_id)]
        self.send(STREAM_SETUP, [*ids, (ECM_ID, ecm), (NOMINAL_CP, cp_duration)])
        status = numbers(await self.expect(STREAM_STATUS, stream_id))
        assert status[ECM_ID] == ecm
        assert status[AC_MODE] in (0, 1)

    async def close_stream(self, stream_id: int) -> None:
        """Close a stream."""
        self.send(CLOSE_REQUEST, [(CHANNEL_ID, self.channel_id), (STREAM_ID, stream_id)])
        await self.expect(CLOSE_RESPONSE, stream_id)

    async def order(
        self, stream_id: int, cp_number: int, words: Mapping[int, bytes], access_criteria: bytes | None = None
    ) -> bytes:
        """Order an ECM with these control words by crypto-period; returns its section, or its TS packets."""
        self.send(CW_PROVISION, self.order_fields(stream_id, cp_number, words, access_criteria))
        answer = await self.expect(ECM_RESPONSE, stream_id)
        assert answer[CP_NUMBER] == [cp_number]
        ecm = answer[ECM][0]
        assert isinstance(ecm, bytes)
        check_ecm(ecm, self.status[FLAG], cp_number)
        return ecm

    def order_fields(
        self, stream_id: int, cp_number: int, words: Mapping[int, bytes], access_criteria: bytes | None = None
    ) -> list[tuple[int, Value]]:
        """The parameters of a CW_provision."""
        fields: list[tuple[int, Value]] = [
            (CHANNEL_ID, self.channel_id),
            (STREAM_ID, stream_id),
            (CP_NUMBER, cp_number),
        ]
        fields += [(CP_CW, struct.pack(">H", period % 65536) + word) for period, word in words.items()]
        return fields if access_criteria is None else [*fields, (ACCESS_CRITERIA, access_criteria)]

    async def expect(self, kind: int, stream_id: int | None = None) -> Fields:
        """Return the next message, which must be this one; tests are answered meanwhile, errors raised."""
        while True:
            heard, fields = await self.hear()
            if heard == CHANNEL_TEST:
                self.send(CHANNEL_STATUS, [(name, value) for name, value in self.status.items()])
                continue
            if heard in (CHANNEL_ERROR, STREAM_ERROR):
                information = fields.get(ERROR_INFORMATION, [b""])[0]
                status = fields[ERROR_STATUS][0]
                assert isinstance(status, int)
                assert isinstance(information, bytes)
                raise EcmgError(heard, status, information)
            assert heard == kind, f"0x{heard:04X} came instead of 0x{kind:04X}"
            assert fields[CHANNEL_ID] == [self.channel_id]
            if stream_id is not None:
                assert fields[STREAM_ID] == [stream_id]
            return fields

    # The plain way.

    def send(self, kind: int, fields: list[tuple[int, Value]]) -> None:
        """Say a message."""
        self.raw(message(self.version, kind, fields))

    def raw(self, data: bytes) -> None:
        """Say any bytes."""
        self.conversation.append((time.time(), "up", data))
        self.writer.write(data)

    async def hear(self) -> tuple[int, Fields]:
        """Return the next message of the ECMG, checked. Raises EOFError at the end of the connection."""
        async with asyncio.timeout(self._patience_s):
            while len(self._held) < 5 or len(self._held) < 5 + int.from_bytes(self._held[3:5], "big"):
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError
                self.conversation.append((time.time(), "down", data))
                self._held += data
        size = 5 + int.from_bytes(self._held[3:5], "big")
        whole, self._held = self._held[:size], self._held[size:]
        assert whole[0] == self.version, f"version {whole[0]} came"
        return parse(whole)

    async def ended(self) -> bool:
        """Whether the ECMG closes the connection, before anything else comes."""
        try:
            await self.hear()
        except (EOFError, ConnectionError):
            return True
        return False


def message(version: int, kind: int, fields: list[tuple[int, Value]]) -> bytes:
    """Spell a message."""
    body = b""
    for name, value in fields:
        data = value if isinstance(value, bytes) else struct.pack(SIZES[name], value)
        body += struct.pack(">HH", name, len(data)) + data
    return struct.pack(">BHH", version, kind, len(body)) + body


def parse(whole: bytes) -> tuple[int, Fields]:
    """Take a message of an ECMG apart, as strictly as the standard is written."""
    _, kind, length = struct.unpack_from(">BHH", whole)
    assert kind in GRAMMAR, f"an ECMG does not send 0x{kind:04X}"
    assert len(whole) == 5 + length
    mandatory, optional = GRAMMAR[kind]
    fields: Fields = {}
    at = 5
    while at < len(whole):
        name, size = struct.unpack_from(">HH", whole, at)
        value = whole[at + 4 : at + 4 + size]
        at += 4 + size
        assert len(value) == size, "a parameter is cut short"
        assert name in mandatory | optional, f"0x{name:04X} in 0x{kind:04X}"
        fields.setdefault(name, []).append(struct.unpack(SIZES[name], value)[0] if name in SIZES else value)
    assert mandatory <= set(fields), f"0x{kind:04X} lacks {mandatory - set(fields)}"
    assert all(len(values) == 1 for name, values in fields.items() if name not in REPEATED)
    assert all(status in ERRORS for status in fields.get(ERROR_STATUS, []))
    return kind, fields


def numbers(fields: Fields) -> dict[int, int]:
    """The parameters that are numbers, each once."""
    return {name: values[0] for name, values in fields.items() if isinstance(values[0], int)}


def check_ecm(ecm: bytes, flag: int, cp_number: int) -> None:
    """An ECM as a scrambler wants it: one section, or TS packets that hold one, with the table_id of its parity."""
    section = ecm if flag == 0 else section_in(ecm)
    assert section[0] == 0x80 + cp_number % 2, "table_id does not follow the crypto-period"
    assert len(section) == 3 + ((section[1] & 0x0F) << 8 | section[2])
    assert len(section) <= 256


def section_in(packets: bytes) -> bytes:
    """The one section in TS packets (ISO/IEC 13818-1, 2.4.3 and 2.4.4), each with its counter."""
    assert packets
    assert len(packets) % 188 == 0
    payload = b""
    for number in range(len(packets) // 188):
        packet = packets[188 * number : 188 * number + 188]
        assert packet[0] == 0x47
        assert bool(packet[1] & 0x40) == (number == 0), "payload_unit_start_indicator"
        assert packet[3] & 0xC0 == 0, "an ECM is not scrambled"
        assert packet[3] & 0x0F == number, "continuity_counter"
        start = 4 if packet[3] & 0x20 == 0 else 5 + packet[4]
        payload += packet[start:]
    assert payload[0] == 0, "pointer_field"
    size = 3 + ((payload[2] & 0x0F) << 8 | payload[3])
    assert set(payload[1 + size :]) <= {0xFF}, "stuffing"
    return payload[1 : 1 + size]
