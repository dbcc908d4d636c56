"""A television: follows PAT, PMT and CAT, gives its card EMMs and ECMs, and descrambles the service it is tuned to."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from tests.tools.tv.csa import Key, ready_word
from tests.tools.tv.packets import (
    EVEN,
    ODD,
    PACKET_SIZE,
    Sections,
    Service,
    begins_picture,
    ca_pids,
    payload_at,
    pid_of,
    programs,
    scrambling,
    service_of,
    split,
)
from tests.tools.tv.viewing_card import ViewingCard

PAT_PID, CAT_PID = 0, 1


class Transmitter(Protocol):
    def transmit(self, command: bytes) -> bytes: ...


class Receiver:
    """The logic, without a thread: packets in, `recording` out. Times are those of `clock`, in seconds.

    `recording` holds PAT, PMT and the service's components as far as they are clear; what stays scrambled is in
    `dark`. `picture_at`: when the first picture began that a decoder can begin with.
    """

    def __init__(
        self, ca_system_id: int, service_id: int, card: ViewingCard, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.recording = bytearray()
        self.clear: list[bytes] = []
        self.dark: list[bytes] = []
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[int] = Counter()
        self.right_at: float | None = None
        self.opened_at: float | None = None
        self.picture_at: float | None = None
        self.service: Service | None = None
        self.dark_before_picture = 0
        self._ca_system_id, self._service_id = ca_system_id, service_id
        self._card, self._clock = card, clock
        self._keys: dict[int, Key] = {}
        self._ecm = b""
        self._pmt_pid: int | None = None
        self._emm_pid: int | None = None
        self._sections: dict[int, Sections] = {PAT_PID: Sections(), CAT_PID: Sections()}

    def feed(self, packets: list[bytes]) -> None:
        """Take whole packets, in the order of the air."""
        for packet in packets:
            pid = pid_of(packet)
            if pid in self._sections:
                for section in self._sections[pid].push(packet):
                    self._take(pid, section)
            if pid in (PAT_PID, self._pmt_pid):
                self.recording += packet
            elif self.service is not None and pid in self.service.components:
                self._play(pid, packet)

    def _take(self, pid: int, section: bytes) -> None:
        if pid == PAT_PID:
            self._pmt_pid = programs(section).get(self._service_id, self._pmt_pid)
            self._listen(self._pmt_pid)
        elif pid == CAT_PID:
            self._emm_pid = ca_pids(section).get(self._ca_system_id, self._emm_pid)
            self._listen(self._emm_pid)
        elif pid == self._pmt_pid:
            found = service_of(section)
            if found is not None and found.service_id == self._service_id:
                self.service = found
                self._listen(found.ecm_pids.get(self._ca_system_id))
        elif pid == self._emm_pid:
            self._on_emm(section)
        else:
            self._on_ecm(section)

    def _listen(self, pid: int | None) -> None:
        if pid is not None:
            self._sections.setdefault(pid, Sections())

    def _on_emm(self, section: bytes) -> None:
        self.counts["EMMs heard"] += 1
        if self._card.filters(section):
            self.counts["EMMs for this card"] += 1
            if self._card.take_emm(section):
                self.right_at = self._clock()
                # What was refused before may open now.
                self._ecm = b""

    def _on_ecm(self, section: bytes) -> None:
        self.counts["ECMs heard"] += 1
        if section == self._ecm or section[0] not in (0x80, 0x81):
            return
        self._ecm = section
        status, words = self._card.open_ecm(section)
        if not words:
            self.refusals[status] += 1
            self._keys.clear()
            return
        self.counts["ECMs opened"] += 1
        first = ODD if section[0] == 0x81 else EVEN
        for parity, word in zip((first, EVEN + ODD - first), words, strict=False):
            self._keys[parity] = Key(ready_word(word))
        self.opened_at = self.opened_at or self._clock()

    def _play(self, pid: int, packet: bytes) -> None:
        parity = scrambling(packet)
        if not parity:
            if payload_at(packet) < PACKET_SIZE:
                self.counts["packets never scrambled"] += 1
            return
        if (key := self._keys.get(parity)) is None:
            self.dark.append(packet)
            return
        plain = key.descramble(packet)
        self.clear.append(plain)
        self.recording += plain
        if self.picture_at is None and self.service and pid == self.service.video_pid and begins_picture(plain):
            self.picture_at = self._clock()


class Television:
    """A receiver on a thread of its own, with the card in one PC/SC reader; `watch` it by `tune`, end it by `off`."""

    def __init__(
        self, ca_system_id: int, service_id: int, connect: Callable[[], AbstractContextManager[Transmitter]]
    ) -> None:
        self._ids = (ca_system_id, service_id)
        self._connect = connect
        self._packets: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ready = threading.Event()
        self._receiver: Receiver | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="television", daemon=True)

    @property
    def receiver(self) -> Receiver:
        """What it sees. Raises what went wrong on its thread."""
        if self._failure is not None:
            raise self._failure
        assert self._receiver is not None
        return self._receiver

    def on(self) -> None:
        """Switch on, and wait until the card has answered."""
        self._thread.start()
        assert self._ready.wait(20), "the card in the reader does not answer"
        assert self.receiver

    def put(self, packets: bytes) -> None:
        """The next packets of the air."""
        self._packets.put(packets)

    def off(self) -> None:
        """Play what has come, then let go of the card."""
        self._packets.put(None)
        self._thread.join(60)
        assert self.receiver
        assert not self._thread.is_alive(), "the television does not switch off"

    def _run(self) -> None:
        try:
            with self._connect() as connection:
                self._receiver = Receiver(*self._ids, ViewingCard(connection.transmit))
                self._ready.set()
                while (packets := self._packets.get()) is not None:
                    self._receiver.feed(split(packets))
        except BaseException as failure:
            self._failure = failure
            self._ready.set()
