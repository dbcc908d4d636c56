"""A main and a standby multiplexer for one stream: `MuxPair` is a link that changes over from one to the other."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import structlog

from cad.air.muxes import (
    STEADY_AFTER_S,
    Allocation,
    ChangedOver,
    LinkEvent,
    LinkLost,
    LinkUp,
    MuxLink,
    system_random,
)
from cad.errors import CadError
from cad.frame.clock import Clock
from config.outlets import MultiplexSettings, StandbySettings

log = structlog.get_logger("cad.air.mux_pair")

MAIN: Final = "main"
STANDBY: Final = "standby"
SIDES: Final = (MAIN, STANDBY)
PATIENCE_MAX_S: Final = 60.0
"""While neither multiplexer answers, each is given more and more time, up to this."""


class SwitchRefusedError(CadError):
    """The stream cannot go where the operator wants it; it stays where it is."""


class MuxPair:
    """Looks like one link; only one of its two multiplexers carries the stream at any time (I4).

    Besides `run`, the `run` of each of `links` has to be a task. The one that carries and has no stream with a rate
    for `takeover_s` is left for the other; that the other one works shows only then, because it is not connected
    before: a second connection to a multiplexer purges its queue, or hangs. Back to the main goes the stream when the
    standby fails, at the operator's word (`switch`), or when the main has been open for `return_after_s`.
    """

    def __init__(
        self,
        multiplex: MultiplexSettings,
        standby: StandbySettings,
        ca_system_id: int,
        clock: Clock,
        *,
        jitter: Callable[[], float] = system_random.random,
    ) -> None:
        self.multiplex = multiplex
        self.carrying = MAIN
        self._reason = ""
        self._standby = standby
        self._clock = clock
        self._log = log.bind(multiplex=multiplex.id)
        self._callbacks: list[Callable[[LinkEvent], None]] = []
        other = multiplex.at_standby
        assert other is not None
        self.links: Mapping[str, MuxLink] = {
            MAIN: MuxLink(multiplex, ca_system_id, clock, jitter=jitter),
            STANDBY: MuxLink(other, ca_system_id, clock, jitter=jitter),
        }
        self.links[STANDBY].hold()
        for side, link in self.links.items():
            link.subscribe(partial(self._on_event, side))
        self._told_up = False
        self._was_up = False
        self._opened_at: dict[str, float | None] = dict.fromkeys(SIDES)
        self._opened = {side: asyncio.Event() for side in SIDES}
        self._trouble_since: float | None = None
        self._was_open = False
        self._patience_s = standby.takeover_s
        self._stays_by_word = False
        self._stopping = False
        self._word = asyncio.Lock()
        self._ready = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether the multiplexer that carries has an open stream with a rate."""
        return not self._stopping and self.links[self.carrying].ready

    @property
    def allocated_bps(self) -> int:
        """The rate of the multiplexer that carries, in bit/s."""
        return self.links[self.carrying].allocated_bps

    @property
    def last_error(self) -> str | None:
        """In words why the stream is or was down, of both multiplexers where both were tried."""
        told = {side: link.last_error for side, link in self.links.items() if link.last_error is not None}
        return "; ".join(f"{side}: {text}" for side, text in told.items()) or None

    @property
    def since(self) -> float | None:
        """Unix time of the last change of `ready`."""
        return self.links[self.carrying].since

    @property
    def verdict(self) -> str:
        """In words why the standby carries the stream; empty while the main does."""
        return "" if self.carrying == MAIN else f"the main was left: {self._reason}"

    def subscribe(self, callback: Callable[[LinkEvent], None]) -> None:
        """Call `callback` with each event of the multiplexer that carries, and with each ChangedOver, at once."""
        self._callbacks.append(callback)

    async def wait_ready(self) -> None:
        """Wait until the multiplexer that carries has an open stream with a rate."""
        await self._ready.wait()

    async def send(self, datagrams: Sequence[bytes]) -> None:
        """Hand datagrams to the multiplexer that carries; as `MuxLink.send`."""
        await self.links[self.carrying].send(datagrams)

    async def run(self) -> None:
        """Decide which multiplexer carries, until `close` is called."""
        while not self._stopping:
            self._changed.clear()
            pause = self._look()
            await self._clock.wait(self._changed, pause)

    async def close(self) -> None:
        """Close both politely."""
        self._stopping = True
        self._ready.clear()
        self._changed.set()
        await asyncio.gather(*(link.close() for link in self.links.values()))

    async def switch(self, to: str) -> None:
        """Have that side carry the stream, on the operator's word: first it is opened, then the other one is left.

        Raises SwitchRefusedError when it has no open stream with a rate within `takeover_s`; nothing is changed then.
        """
        async with self._word:
            target = self.links[to]
            began = self._clock.monotonic()
            while to != self.carrying and not target.ready and not self._stopping:
                target.release()
                left = began + self._standby.takeover_s - self._clock.monotonic()
                if left <= 0:
                    self._hold_idle()
                    raise SwitchRefusedError(
                        f"the {to} of multiplex {self.multiplex.id} has no open stream within"
                        f" {self._standby.takeover_s:g} s ({target.last_error or 'no answer yet'}); the {self.carrying}"
                        " goes on. Where both are addresses of one multiplexer, it takes the second only when the"
                        " first is gone"
                    )
                await self._clock.wait(self._opened[to], left)
            self._stays_by_word = to == STANDBY
            if to != self.carrying:
                self._change_over(to, "the operator's word")
            self._hold_idle()
            self._changed.set()

    def _on_event(self, side: str, event: LinkEvent) -> None:
        link = self.links[side]
        if not link.ready:
            self._opened_at[side] = None
            self._opened[side].clear()
        elif self._opened_at[side] is None:
            self._opened_at[side] = self._clock.monotonic()
            self._opened[side].set()
        self._changed.set()
        if side == self.carrying and not self._stopping:
            self._tell(event)

    def _tell(self, event: LinkEvent) -> None:
        match event:
            case LinkUp():
                event = LinkUp(reconnected=self._was_up)
                self._told_up = self._was_up = True
            case LinkLost():
                self._told_up = False
            case _:
                pass
        if self.ready:
            self._ready.set()
        else:
            self._ready.clear()
        for callback in self._callbacks:
            callback(event)

    def _look(self) -> float:
        """Change over if it is time; return when to look again, in seconds."""
        now = self._clock.monotonic()
        side, other = self.carrying, STANDBY if self.carrying == MAIN else MAIN
        opened_at = self._opened_at[side]
        if opened_at is None:
            if self._trouble_since is None:
                self._trouble_since = now
            left = self._trouble_since + self._patience_s - now
            if left > 0 and not self.links[other].ready:
                return left
            self._give_up(other)
            return 0.0
        steady_in = opened_at + STEADY_AFTER_S - now
        if steady_in <= 0 or not self._was_open:
            # A stream that opens and breaks again and again is one trouble; until it first opens it is no trouble yet.
            self._trouble_since = None
            self._was_open = True
        if steady_in <= 0:
            self._patience_s = self._standby.takeover_s
        back_in = self._back_in(now)
        if back_in <= 0:
            self._change_over(MAIN, f"the main has been open for {self._standby.return_after_s:g} s")
            return 0.0
        return min(steady_in if steady_in > 0 else math.inf, back_in, 3600.0)

    def _back_in(self, now: float) -> float:
        """Seconds until the stream may go back to the main by itself."""
        opened_at = self._opened_at[MAIN]
        if not self._returns or opened_at is None:
            return math.inf
        return opened_at + self._standby.return_after_s - now

    @property
    def _returns(self) -> bool:
        return self.carrying == STANDBY and self._standby.return_after_s > 0 and not self._stays_by_word

    def _give_up(self, other: str) -> None:
        reason = self.links[self.carrying].last_error or "no stream with a rate"
        patience = self._patience_s
        self._change_over(other, reason)
        self._patience_s = max(self._standby.takeover_s, min(2 * patience, PATIENCE_MAX_S))

    def _change_over(self, to: str, reason: str) -> None:
        """Let the other multiplexer carry; what the one before may not have sent is sent again by whoever listens."""
        before = self.links[self.carrying]
        told_up, heard_at = self._told_up, before.heard_at
        self.carrying = to
        self._reason = reason
        self._trouble_since = None
        self._was_open = False
        if to == MAIN:
            self._stays_by_word = False
        self._log.warning("the stream changes over", to=to, reason=reason)
        self._tell(ChangedOver(to, reason))
        if told_up:
            self._tell(LinkLost(f"changed over to the {to}: {reason}", heard_at))
        self.links[to].release()
        self._hold_idle()
        if self.links[to].ready:
            self._tell(LinkUp(reconnected=True))
            self._tell(Allocation(self.links[to].allocated_bps))

    def _hold_idle(self) -> None:
        """Part from the multiplexer that does not carry, unless it is waited for its return."""
        if not self._returns:
            self.links[STANDBY if self.carrying == MAIN else MAIN].hold()
