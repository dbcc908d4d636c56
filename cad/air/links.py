"""What carries EMMs to the cards of a network, whatever is at the other end."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from cad.air.mux_pair import MuxPair
from cad.air.muxes import LinkEvent, MuxLink
from cad.frame.clock import Clock
from cad.ts_out.link import StreamLink
from config.outlets import Outlet, StreamSettings


class Link(Protocol):
    """A way for datagrams that comes and goes by itself; `cad.air.broadcast.Channel` sends by it."""

    @property
    def ready(self) -> bool:
        """Whether something can be sent."""
        ...

    @property
    def allocated_bps(self) -> int:
        """The most that may be sent, in bit/s; 0 while not ready."""
        ...

    @property
    def last_error(self) -> str | None:
        """Why it is or was down."""
        ...

    @property
    def since(self) -> float | None:
        """Unix time of the last change of `ready`."""
        ...

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
    if outlet.standby is not None:
        return MuxPair(outlet, outlet.standby, ca_system_id, clock)
    return MuxLink(outlet, ca_system_id, clock)


def tasks_of(name: str, link: Link) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """Return what has to run for the link of that name to work, by names of tasks."""
    tasks = {f"link {name}": link.run}
    if isinstance(link, MuxPair):
        tasks |= {f"link {name} {side}": one.run for side, one in link.links.items()}
    return tasks
