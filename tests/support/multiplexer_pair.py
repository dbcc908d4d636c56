"""A main and a standby strict multiplexer, and the settings of one stream on both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from config.outlets import MultiplexSettings
from tests.support.multiplexer import StrictMultiplexer


class TwoMultiplexers(NamedTuple):
    main: StrictMultiplexer
    standby: StrictMultiplexer

    def settings(self, return_after_s: float = 0, **changes: object) -> MultiplexSettings:
        """One stream on both, impatient for tests."""
        standby: dict[str, object] = {
            "host": self.standby.host,
            "port": self.standby.port,
            "takeover_s": 1.5,
            "return_after_s": return_after_s,
        }
        if changes.get("transport") == "udp":
            changes["udp_port"], standby["udp_port"] = self.main.udp_port, self.standby.udp_port
        usual = {
            "id": "mux-1",
            "host": self.main.host,
            "port": self.main.port,
            "client_id": 0x4AE6 << 16,
            "answer_timeout_s": 1,
            "test_interval_s": 1,
            "standby": standby,
        }
        return MultiplexSettings.model_validate(usual | changes)


@asynccontextmanager
async def two_multiplexers(kbps: int = 100) -> AsyncIterator[TwoMultiplexers]:
    async with StrictMultiplexer(kbps) as main, StrictMultiplexer(kbps) as standby:
        yield TwoMultiplexers(main, standby)
