"""What carries EMMs to the cards of a network, whatever is at the other end."""

from collections.abc import Callable, Sequence
from typing import Protocol

from cad.clock import Clock
from cad.muxes import LinkEvent, MuxLink
from cad.ts_out.link import StreamLink
from config.settings import Outlet, StreamSettings


class Link(Protocol):
    """A way for datagrams that comes and goes by itself; `cad.broadcast.Channel` sends by it."""

    ready: bool
    allocated_bps: int
    last_error: str | None
    since: float | None

    def subscribe(self, callback: Callable[[LinkEvent], None]) -> None:
        """Call `callback` with each event, at once, in the event loop; it must neither block nor raise."""
        ...

    async def wait_ready(self) -> None:
        """Wait until something can be sent."""
        ...

    async def send(self, datagrams: Sequence[bytes]) -> None:
        """Hand datagrams over. Raises LinkDownError."""
        ...

    async def run(self) -> None:
        """Keep the link up until `close` is called."""
        ...

    async def close(self) -> None:
        """End in an orderly way."""
        ...


def link_to(outlet: Outlet, ca_system_id: int, clock: Clock) -> Link:
    """Return the link that an outlet of the settings asks for."""
    if isinstance(outlet, StreamSettings):
        return StreamLink(outlet, ca_system_id, clock)
    return MuxLink(outlet, ca_system_id, clock)
