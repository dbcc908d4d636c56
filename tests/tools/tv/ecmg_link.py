"""The scrambler's connection to the ECMG: one channel, one stream, over TCP, by the strict SCS of the tests."""

import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.headend import CA_SYSTEM_ID
from tests.support.scrambler import CW_PER_MSG, DELAY_START, LEAD_CW, MAX_COMP_TIME, MIN_CP, StrictScrambler
from tests.tools.tv.picture import SERVICE_ID
from tests.tools.tv.scrambler import ORDER_AHEAD_S, Order
from tests.tools.tv.stage import CRYPTO_PERIOD_S

ECM_STREAM_ID = 1
# As docs/ecmg.md has it: a service by original_network_id, transport_stream_id and service_id.
ACCESS_CRITERIA = struct.pack(">BHHH", 1, 1, 1, SERVICE_ID)


@dataclass(frozen=True)
class EcmgLink:
    """What orders ECMs, and when they go on the air after the beginning of their crypto-period."""

    order: Order
    delay_start_s: float


@asynccontextmanager
async def ecmg_link(port: int) -> AsyncIterator[EcmgLink]:
    """Set up channel and stream with the ECMG on this port of the loopback; closed in order afterwards."""
    async with StrictScrambler("127.0.0.1", port, CA_SYSTEM_ID << 16) as scs:
        status = await scs.open_channel()
        assert (status[LEAD_CW], status[CW_PER_MSG]) == (1, 2), "the scrambler here sends each word with the next"
        assert status[MIN_CP] / 10 <= CRYPTO_PERIOD_S
        assert status[MAX_COMP_TIME] / 1000 < ORDER_AHEAD_S
        await scs.open_stream(ECM_STREAM_ID, cp_duration=round(CRYPTO_PERIOD_S * 10))

        async def order(number: int, words: Sequence[tuple[int, bytes]]) -> bytes:
            return await scs.order(ECM_STREAM_ID, number, dict(words), ACCESS_CRITERIA)

        yield EcmgLink(order, status[DELAY_START] / 1000)
        await scs.close_stream(ECM_STREAM_ID)
