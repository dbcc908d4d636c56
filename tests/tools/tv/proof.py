"""The proof: a scrambled service becomes clear for the card that ordered it, and for no other; judged by others too.

Real are the daemon with broker and multiplexer link, its ECMG over TCP, the transport stream with DVB-CSA, pcscd with a
card in each reader, ffmpeg's picture. The card is software; scrambler and television are the test tools beside this.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cards import pcsc
from protocol import card_number
from tests.support.headend import CA_SYSTEM_ID, FIRST
from tests.tools.tv import judging, others, picture
from tests.tools.tv.csa import Key, fresh_word, ready_word
from tests.tools.tv.ecmg_link import EcmgLink
from tests.tools.tv.on_air import OnAir
from tests.tools.tv.packets import EVEN, ODD, pid_of, scrambling, set_scrambling, split
from tests.tools.tv.picture import SERVICE_ID, Decoded, decode, from_first_picture
from tests.tools.tv.scrambler import CP_NUMBERS, Scrambler
from tests.tools.tv.stage import CRYPTO_PERIOD_S, OPERATOR, Stage
from tests.tools.tv.television import Receiver, Television

SECONDS = 14
DARK_S = 3.0
"""How long both televisions stay dark before the order."""

ECM_ON_AIR_S = 0.2
"""How long an ECM may take from when it is due until the television has it: it comes every 0.1 s."""

WHOLE_SECOND_S = 1.0
"""Times in rights and ECMs are whole seconds: an ECM of the right's first second may still be too early."""

COMPONENTS = (picture.VIDEO_PID, picture.AUDIO_PID)
CARD, OTHER_CARD = FIRST[OPERATOR], FIRST[OPERATOR] + 1
FIRST_CRYPTO_PERIOD = CP_NUMBERS - 2
"""So that the number wraps while we watch."""

SPOILED_MAX = 0.01
"""Share of packets that tsdecrypt spoils while it hands over EMMs; 0.1 % were measured."""

Watch = Callable[[str, bool], Awaitable[list[bytes]]]
Tell = Callable[[str, str], None]
"""Takes who (portal, scrambler, television …) and what, in words."""


@dataclass
class Proof:
    """What was shown. Times in seconds."""

    packets: int = 0
    crypto_periods: int = 0
    crypto_periods_extended: int = 0
    ordered_at_s: float = 0.0
    order_to_reply_s: float = 0.0
    order_to_right_s: float = 0.0
    order_to_picture_s: float = 0.0
    clear_packets: int = 0
    pictures: int = 0
    clear_packets_without_right: int = -1
    pictures_tsdecrypt: int = 0
    clear_packets_tsdecrypt: int = 0
    clear_packets_tsdecrypt_without_right: int = -1
    constant_word_packets: int = 0
    control_words_looked_for: int = 0
    refusals: list[str] = field(default_factory=list)


@dataclass
class Recordings:
    """The files of the proof, in one folder."""

    folder: Path

    @property
    def clear(self) -> Path:
        return self.folder / "clear.ts"

    @property
    def on_air(self) -> Path:
        return self.folder / "on-air.ts"

    def received(self, by: str) -> Path:
        return self.folder / f"received-by-{by}.ts"


class Prover:
    """Goes through the proof step by step; each step asserts what it shows."""

    def __init__(self, stage: Stage, recordings: Recordings, tell: Tell) -> None:
        self.proof = Proof()
        self._stage, self._files, self._tell = stage, recordings, tell
        self._monitor_log = recordings.folder / "monitor-camd.log"
        self._monitor_log.unlink(missing_ok=True)
        self._clear: list[bytes] = []
        self._words: list[bytes] = []
        self._decoded = Decoded({}, {}, "")

    def make_service(self) -> None:
        """The clear service, and what ffmpeg decodes of it."""
        picture.make_service(self._files.clear, SECONDS)
        packets = split(self._files.clear.read_bytes())
        self._clear = judging.programme(packets, COMPONENTS)
        self._decoded = decode(self._files.clear)
        assert not self._decoded.complaints, self._decoded.complaints
        self._tell(
            "ffmpeg",
            f"{SECONDS} s of MPEG-2 video and sound: {len(packets)} packets, {len(self._decoded.pictures)} pictures",
        )

    async def sell(self) -> None:
        """The offer, and the cards of two customers; no order yet."""
        offer = {"offer": "sport", "rev": 1, "kind": "channel", "names": {"en": "Sport 1"}, "products": ["sport"]}
        await self._stage.ask("offer", "put", offer)
        for customer, number in enumerate(self._numbers(), 1):
            await self._stage.ask("card", "assign", {"card": number, "rev": 1, "subscriber": f"customer-{customer}"})
        self._tell("portal", f"cards {' and '.join(self._numbers())} are assigned; nothing is ordered")

    async def broadcast(self, link: EcmgLink) -> None:
        """The service on the air, once, with two televisions; the order comes in the middle."""
        scrambler = Scrambler(link.order, CRYPTO_PERIOD_S, link.delay_start_s, FIRST_CRYPTO_PERIOD)
        await scrambler.prepare()
        self._tell(
            "scrambler",
            f"has its first ECM from the ECMG over TCP; DVB-CSA2 with a new control word every {CRYPTO_PERIOD_S:.0f} s",
        )
        air = OnAir(self._files.clear.read_bytes(), scrambler, CA_SYSTEM_ID, self._stage.new_emms)
        with self._stage.card(CARD, 0) as reader, self._stage.card(OTHER_CARD, 1) as other_reader:
            mine, other = _television(reader), _television(other_reader)
            for one in (mine, other):
                await asyncio.to_thread(one.on)
                air.receivers.append(one.put)
            sending = asyncio.get_running_loop().create_task(air.run(), name="on the air")
            try:
                await self._order(air, mine, other, sending)
                await sending
            finally:
                sending.cancel()
                scrambler.close()
                for one in (mine, other):
                    await asyncio.to_thread(one.off)
        self._files.on_air.write_bytes(b"".join(air.packets))
        self._words = [one.word for one in scrambler.history]
        self.proof.crypto_periods = len(scrambler.history)
        self.proof.crypto_periods_extended = scrambler.extended
        self._judge_air(air)
        self._judge_mine(mine.receiver, air, _first_open(scrambler, self.proof) + link.delay_start_s + ECM_ON_AIR_S)
        self._judge_other(other.receiver)

    async def _order(self, air: OnAir, mine: Television, other: Television, sending: asyncio.Task[None]) -> None:
        stage = self._stage

        async def until(look: Callable[[], object], what: str) -> None:
            await stage.until(lambda: look() or (sending.done() and sending.result()), what)
            assert look(), f"the service ended before {what}"

        await until(lambda: air.at >= DARK_S, "both televisions to have been dark for a while")
        for one in (mine, other):
            assert one.receiver.dark, "the television receives nothing"
            assert not one.receiver.clear, "a channel that nobody ordered is clear"
            assert one.receiver.counts["EMMs for this card"], "the card has not heard its first EMM"
        self._tell("television", f"both dark: {len(mine.receiver.dark)} packets received, none clear")
        body = {"subscription": "order-1", "rev": 1, "card": self._numbers()[0], "offer": "sport"}
        self.proof.ordered_at_s = round(air.at, 3)
        began = time.monotonic()
        reply = await stage.ask("subscription", "put", body)
        self.proof.order_to_reply_s = round(time.monotonic() - began, 3)
        self._tell("portal", f"orders Sport 1 for card {self._numbers()[0]}: {reply['status']}")
        await until(lambda: mine.receiver.picture_at, "the picture")
        assert mine.receiver.right_at is not None
        assert mine.receiver.picture_at is not None
        self.proof.order_to_right_s = round(mine.receiver.right_at - began, 3)
        self.proof.order_to_picture_s = round(mine.receiver.picture_at - began, 3)
        self._tell(
            "television",
            f"the card has its right after {self.proof.order_to_right_s:.2f} s, "
            f"the picture stands after {self.proof.order_to_picture_s:.2f} s",
        )

    def _judge_air(self, air: OnAir) -> None:
        sent = judging.programme(air.packets, COMPONENTS)
        self.proof.packets = judging.assert_scrambled(sent, self._clear)
        parities = [scrambling(one) for one in sent]
        changes = sum(one != other for one, other in itertools.pairwise(parities))
        assert changes == self.proof.crypto_periods - 1, f"{changes} changes of parity"
        self._tell(
            "on the air",
            f"all {self.proof.packets} packets of picture and sound scrambled, "
            f"{self.proof.crypto_periods} control words",
        )

    def _judge_mine(self, receiver: Receiver, air: OnAir, clear_by_s: float) -> None:
        start = judging.first_same(receiver.clear, self._clear)
        assert start == len(receiver.dark), "packets went dark again"
        clear_at_s = _time_of(start, air)
        assert clear_at_s <= clear_by_s, f"clear from {clear_at_s:.2f} s, but it should be by {clear_by_s:.2f} s"
        self.proof.clear_packets = len(receiver.clear)
        self.proof.pictures = self._judge_recording("television", bytes(receiver.recording))
        self._tell(
            "television",
            f"{len(receiver.clear)} packets clear, bit for bit; ffmpeg decodes "
            f"{self.proof.pictures} pictures without complaint, each as it was sent",
        )

    def _judge_other(self, receiver: Receiver) -> None:
        assert len(receiver.dark) == self.proof.packets, "the other television missed packets"
        assert not receiver.clear, f"{len(receiver.clear)} packets clear without a right"
        self.proof.clear_packets_without_right = len(receiver.clear)
        self.proof.refusals = [f"{status:04X}" for status in sorted(receiver.refusals)]
        # As a receiver without any card would decode it.
        blind = decode(
            self._write("nobody", b"".join(set_scrambling(one, 0) for one in split(self._files.on_air.read_bytes())))
        )
        seen = set(blind.pictures.values()) & set(self._decoded.pictures.values())
        assert not seen, f"{len(seen)} pictures can be seen without any key"
        self._tell("television", f"of the other card: not one of {len(receiver.dark)} packets clear")

    async def watch_with_tsdecrypt(self) -> None:
        """The recording of the air once more, by tsdecrypt on top of a fresh copy of each card."""
        async with self._monitored(CARD) as watch:
            # By itself: tables, EMMs, ECMs, descrambling. It spoils a packet now and then, so this one is not judged by
            # the picture.
            alone = await watch("tsdecrypt-with-emms", True)
            spoiled = judging.share_spoiled(alone, self._clear)
            assert spoiled <= SPOILED_MAX, f"{spoiled:.2%} of {len(alone)} packets are spoiled"
            self._tell("tsdecrypt", f"gives the card its EMM, and descrambles {len(alone)} packets")
            mine = await watch("tsdecrypt", False)
        judging.first_same(mine, self._clear)
        received = self._files.received("tsdecrypt").read_bytes()
        self.proof.clear_packets_tsdecrypt = len(mine)
        self.proof.pictures_tsdecrypt = self._judge_recording("tsdecrypt-picture", received)
        self._tell(
            "tsdecrypt",
            f"without EMMs: {len(mine)} packets clear, bit for bit; {self.proof.pictures_tsdecrypt} pictures as sent",
        )
        async with self._monitored(OTHER_CARD) as watch:
            other = await watch("tsdecrypt-without-right", True)
        assert not other, f"tsdecrypt got {len(other)} packets clear without a right"
        self.proof.clear_packets_tsdecrypt_without_right = len(other)
        self._tell("tsdecrypt", "with the other card: not one packet clear")

    @asynccontextmanager
    async def _monitored(self, address: int) -> AsyncIterator[Watch]:
        """A card in the reader, `cad monitor-camd` on it, and what has tsdecrypt watch and gives what it got clear."""
        place, log = self._stage.folder, self._monitor_log

        async def watch(name: str, emms: bool) -> list[bytes]:
            received = self._files.received(name)
            said = await asyncio.to_thread(
                others.watch, self._files.on_air, received, SERVICE_ID, CA_SYSTEM_ID, camd, emms
            )
            assert f"ECM CAID: {CA_SYSTEM_ID:#06x}" in said, f"tsdecrypt did not follow the tables: {said}"
            return [one for one in judging.programme(split(received.read_bytes()), COMPONENTS) if not scrambling(one)]

        with self._stage.card(address, 0) as reader, others.monitor_camd(place, log, reader, CA_SYSTEM_ID) as camd:
            yield watch

    def judge_logs(self) -> None:
        """No control word stands in a log, neither as it was ordered nor as it is used."""
        logs = self._stage.headend.log.read_text() + self._monitor_log.read_text()
        words = [word for one in self._words for word in (one, ready_word(one))]
        for word in words:
            assert word.hex() not in logs.lower(), "a control word stands in a log"
            assert word.hex(" ") not in logs.lower(), "a control word stands in a log"
        self.proof.control_words_looked_for = len(words)

    def judge_cipher(self) -> None:
        """The whole service under a constant even and odd word: tsdecrypt must give back every bit of it."""
        words = [ready_word(fresh_word()), ready_word(fresh_word())]
        keys = [Key(word) for word in words]
        scrambled: list[bytes] = []
        for number, packet in enumerate(split(self._files.clear.read_bytes())):
            odd = number // 100 % 2
            is_programme = pid_of(packet) in COMPONENTS
            scrambled.append(keys[odd].scramble(packet, ODD if odd else EVEN) if is_programme else packet)
        self.proof.constant_word_packets = judging.assert_scrambled(
            judging.programme(scrambled, COMPONENTS), self._clear
        )
        file, received = (
            self._write("constant-word", b"".join(scrambled)),
            self._files.received("constant-word-tsdecrypt"),
        )
        others.descramble_with(b"".join(words), file, received)
        assert received.read_bytes() == self._files.clear.read_bytes(), "tsdecrypt descrambles it otherwise"
        self._tell(
            "tsdecrypt", f"with a constant control word: {self.proof.constant_word_packets} packets, bit for bit"
        )

    def write_images(self, folder: Path) -> None:
        """A frame of before and after, for the docs."""
        sent = judging.programme(split(self._files.on_air.read_bytes()), COMPONENTS)
        picture.write_noise(sent[:200], folder / "scrambled.png")
        picture.write_frame(self._files.received("television"), folder / "clear.png", 1.0)
        self._tell("ffmpeg", f"wrote scrambled.png and clear.png to {folder}")

    def _judge_recording(self, name: str, recording: bytes) -> int:
        return judging.same_pictures(decode(self._write(name, from_first_picture(recording))), self._decoded)

    def _write(self, name: str, content: bytes) -> Path:
        file = self._files.received(name)
        file.write_bytes(content)
        return file

    def _numbers(self) -> list[str]:
        return [card_number.spell(address) for address in (CARD, OTHER_CARD)]


def _television(reader: str) -> Television:
    return Television(CA_SYSTEM_ID, SERVICE_ID, lambda: pcsc.connect(reader))


def _first_open(scrambler: Scrambler, proof: Proof) -> float:
    """When the first crypto-period began whose ECM was made with the right on."""
    right_at_s = proof.ordered_at_s + proof.order_to_right_s
    found = [one.began for one in scrambler.history if one.ordered >= right_at_s + WHOLE_SECOND_S]
    assert found, "no crypto-period began with the right on"
    return found[0]


def _time_of(number: int, air: OnAir) -> float:
    """When a packet of the programme went on the air."""
    places = [place for place, one in enumerate(air.packets) if judging.programme([one], COMPONENTS)]
    return places[number] * air.duration_s / len(air.packets)
