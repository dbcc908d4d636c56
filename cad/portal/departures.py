"""When which command goes out: in order for each resource, again when no answer comes, not too many at once. Pure."""

import heapq
import math
from collections.abc import Iterator
from typing import Final

from cad.portal.order import Lanes
from cad.portal.outbox import Entry

GROWTH: Final = 2.0


class Departures:
    """The commands without an answer. Times are monotonic seconds."""

    def __init__(self, repeat_after_s: float, repeat_max_s: float, window: int) -> None:
        self._repeat_after_s = repeat_after_s
        self._repeat_max_s = repeat_max_s
        self._window = window
        self._lanes = Lanes()
        self._entries: dict[int, Entry] = {}
        self._by_id: dict[str, int] = {}
        self._by_digest: dict[str, int] = {}
        self._ready: list[int] = []
        self._under_way: dict[int, int] = {}
        self._again: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Take in a command; one that is here already stays as it is."""
        if entry.seq in self._entries:
            return
        self._entries[entry.seq] = entry
        self._by_id[entry.id] = self._by_digest[entry.digest] = entry.seq
        if self._lanes.add(entry.seq, entry.claims):
            heapq.heappush(self._ready, entry.seq)

    def by_id(self, command_id: str) -> Entry | None:
        """Return the unanswered command of that id."""
        return self._entries.get(self._by_id.get(command_id, 0))

    def by_digest(self, digest: str) -> Entry | None:
        """Return the unanswered command whose payload has that SHA-256."""
        return self._entries.get(self._by_digest.get(digest, 0))

    def settle(self, seq: int) -> None:
        """Take out an answered command, and let those go that waited for it."""
        entry = self._entries.pop(seq, None)
        if entry is None:
            return
        del self._by_id[entry.id]
        self._by_digest.pop(entry.digest, None)
        self._under_way.pop(seq, None)
        for each in self._lanes.settle(seq):
            heapq.heappush(self._ready, each)

    def rewind(self) -> None:
        """A new connection: what was under way goes out again, the oldest first."""
        for seq in self._under_way:
            heapq.heappush(self._ready, seq)
        self._under_way.clear()
        self._again.clear()

    def due(self, now: float) -> Iterator[Entry]:
        """Give the commands that go out now, each once, the oldest first; those under way for too long again."""
        while self._again and self._again[0][0] <= now:
            _, seq = heapq.heappop(self._again)
            if seq in self._under_way:
                yield self._depart(seq, now)
        while self._ready and len(self._under_way) < self._window:
            seq = heapq.heappop(self._ready)
            if seq in self._entries:
                yield self._depart(seq, now)

    def next_at(self, now: float) -> float:
        """Return when to look again; infinite when only an answer or a new command can change anything."""
        if self._ready and len(self._under_way) < self._window:
            return now
        return self._again[0][0] if self._again else math.inf

    def _depart(self, seq: int, now: float) -> Entry:
        times = self._under_way[seq] = self._under_way.get(seq, 0) + 1
        pause_s = min(self._repeat_max_s, self._repeat_after_s * GROWTH ** min(times - 1, 30))
        heapq.heappush(self._again, (now + pause_s, seq))
        return self._entries[seq]
