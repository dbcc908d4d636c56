"""What an EMM says and opens (docs/emm.md), with the default calendar."""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.support.headend_model.state import DAY

PERIOD = 5 * DAY
EPOCH = 30 * DAY
LEAD = DAY
ECMS_AHEAD = 30
"""In the last seconds of an epoch ECMs use the keys of the next."""
Span = tuple[int, int | None]
"""From … until before …; None: no end."""
Windows = dict[int, list[Span]]
"""By product."""


@dataclass(frozen=True)
class Content:
    """All that a card is to be told; `windows` None: it is suspended, or not in use."""

    windows: Windows | None
    receiver: int | None = None
    region: int = 0
    level: int = 0
    pin_reset: int = 0


def key_epoch(at: float) -> int:
    """The epoch whose keys an ECM made then uses."""
    return int(at + ECMS_AHEAD) // EPOCH


def merged(windows: Iterable[Span]) -> list[Span]:
    """Windows of one product that overlap or meet are one."""
    found: list[Span] = []
    for start, end in sorted(windows, key=lambda window: window[0]):
        before = found[-1] if found else None
        if before is None or (before[1] is not None and before[1] < start):
            found.append((start, end))
        elif before[1] is not None:
            found[-1] = (before[0], None if end is None else max(before[1], end))
    return found


def opens(content: Content, period: int, product: int, at: float) -> bool:
    """Whether an EMM of that period, with that content, opens ECMs of a product that are made at a time.

    One that begins a day or more after the period is not said yet. Sent are the keys of this epoch, and of the next one
    where the period is the last of its epoch; a window has those of the epochs in which it has a part.
    """
    epoch = key_epoch(at)
    if epoch > period // 6 + (period % 6 == 5):
        return False
    for start, end in merged((content.windows or {}).get(product, [])):
        if start <= at and (end is None or at < end):
            return start < (period + 1) * PERIOD + LEAD and (end is None or end > epoch * EPOCH)
    return False


def edges(content: Content, period: int) -> set[int]:
    """The moments from the period's begin on at which something may open or close, and those around them."""
    epochs = [(period // 6 + number) * EPOCH for number in (1, 2)]
    found = {period * PERIOD, (period + 1) * PERIOD, *epochs, *(epoch - ECMS_AHEAD for epoch in epochs)}
    for windows in (content.windows or {}).values():
        for start, end in windows:
            found |= {start, start if end is None else end}
    return {moment + off for moment in found for off in (-1, 0) if moment + off >= period * PERIOD}
