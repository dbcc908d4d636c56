"""`cad monitor-camd`: card and sockets are real, only the reader is missing (tests/integration/tv has it)."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner

from cad.cli.air.monitor_camd import command
from cad.errors import ListenError
from cad.frame import logs
from cad.monitor_camd import (
    Bridge,
    MonitoredCard,
    MonitorServer,
    PasswordFileError,
    concerns,
    even_and_odd,
    read_password,
)
from cards.application import DEFAULT_AID, CardApplication
from cards.errors import CardRemovedError, NoCardError, PairedError
from cards.session import CardSession, ControlWords
from emm.ecm import Parity
from emm.plan import Right
from emm.secret import Secret
from emm.traits import Traits
from protocol import receiver_number
from tests.support.cards import ADDRESS, WORDS, blank_card, ecm, emm, receiver
from tests.support.monitor_client import MonitorClient, spell
from tests.support.waiting import wait_until

CA = 0x4ADE
USER, PASSWORD = "monitor", "a password of the tests"
PRODUCT = 3
# The words of the ECM with bytes 3 and 7 as the descrambler needs them.
EVEN, ODD = (word[:3] + bytes([sum(word[:3]) & 255]) + word[4:7] + bytes([sum(word[4:7]) & 255]) for word in WORDS)


@dataclass
class Reader:
    """A reader whose card can be pulled."""

    card: CardApplication = field(default_factory=blank_card)
    empty: bool = False
    connections: int = 0

    @contextmanager
    def connect(self) -> Iterator["Reader"]:
        if self.empty:
            raise NoCardError("there is no card in the reader")
        self.connections += 1
        yield self

    def transmit(self, command: bytes) -> bytes:
        if self.empty:
            raise CardRemovedError("the card was taken out")
        return self.card.process(command)


@dataclass
class Running:
    reader: Reader
    server: MonitorServer
    bridge: Bridge
    stream: StringIO

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def told(self, event: str) -> list[dict[str, object]]:
        return [one for one in self.events if one["event"] == event]

    def client(self, user: str = USER, password: str = PASSWORD) -> MonitorClient:
        return MonitorClient(self.server.port, user, password)


@pytest.fixture
def running() -> Iterator[Running]:
    stream = StringIO()
    logs.configure("info", "json", stream)
    reader = Reader()
    card = MonitoredCard(reader.connect, DEFAULT_AID)
    bridge = Bridge(card, CA)
    server = MonitorServer(bridge, USER, PASSWORD, port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield Running(reader, server, bridge, stream)
    server.stop()
    thread.join(10)
    card.close()
    logs.configure("warning", "console")
    assert not thread.is_alive()


def section(table_id: int, address: bytes) -> bytes:
    """What has the form of an EMM, after docs/emm.md."""
    body = address + bytes([1, 1]) + bytes(7) + bytes(16) + bytes(20)
    return bytes([table_id, 0x70, len(body)]) + body


def settled(look: Callable[[], object]) -> None:
    wait_until(lambda: bool(look()), 5)


def test_a_channel_opens_when_its_emm_has_been_handed_over(running: Running) -> None:
    with running.client() as receiver:
        assert receiver.ask(ecm(PRODUCT), CA) == (0x44, b"")
        for section in emm(Right(PRODUCT, 0)):
            receiver.hand_emm(section, CA)
        assert receiver.ask(ecm(PRODUCT), CA) == (0x01, EVEN + ODD)
        assert receiver.ask(ecm(PRODUCT, parity=Parity.ODD), CA) == (
            0x01,
            b"".join((_summed(WORDS[1]), _summed(WORDS[0]))),
        )
    settled(lambda: running.told("receiver gone"))
    assert [one["event"] for one in running.events] == [
        "receiver connected",
        "card connected",
        "channel stays closed",
        "card took an EMM",
        "channel opened",
        "receiver gone",
    ]
    assert running.told("channel stays closed")[0]["reason"] == "the card has not taken any EMM yet"
    assert running.told("receiver gone")[0]["ECMs opened"] == 2


def test_what_is_repeated_is_told_once(running: Running) -> None:
    with running.client() as receiver:
        for _ in range(5):
            assert receiver.ask(ecm(PRODUCT), CA)[0] == 0x44
    assert len(running.told("channel stays closed")) == 1
    assert running.bridge.counts["ECMs refused"] == 5


def test_emms_of_others_do_not_trouble_the_card(running: Running) -> None:
    with running.client() as receiver:
        for section in emm(Right(PRODUCT, 0), address=ADDRESS + 1):
            receiver.hand_emm(section, CA)
        receiver.hand_emm(b"\x00\xb0\x0d", CA)
        receiver.hand_emm(b"", CA)
        assert receiver.ask(ecm(PRODUCT), CA)[0] == 0x44
    assert running.bridge.counts["EMMs heard"] == 3
    assert running.bridge.counts["EMMs for this card"] == 0


def test_a_card_that_is_paired_with_another_receiver_says_so_and_stays_closed(running: Running) -> None:
    with running.client() as client:
        for one in emm(Right(PRODUCT, 0), traits=Traits(receiver(1).number)):
            client.hand_emm(one, CA)
        assert client.ask(ecm(PRODUCT), CA) == (0x44, b"")
    name = receiver_number.spell(receiver(1).number)
    reason = str(running.told("channel stays closed")[0]["reason"])
    assert f"paired with receiver {name}, and this is no receiver" in reason


def test_a_card_that_is_paired_with_this_receiver_opens(running: Running) -> None:
    for one in emm(Right(PRODUCT, 0), traits=Traits(receiver(1).number)):
        CardSession(running.reader.card.process).process_emm(one)
    mine = MonitoredCard(running.reader.connect, DEFAULT_AID, receiver(1))
    assert mine.process_ecm(ecm(PRODUCT)).words == WORDS
    assert not running.told("the card is paired with another receiver: channels stay closed here")
    mine.close()
    other = MonitoredCard(running.reader.connect, DEFAULT_AID, receiver(2))
    with pytest.raises(PairedError, match="not with this one"):
        other.process_ecm(ecm(PRODUCT))
    (warning,) = running.told("the card is paired with another receiver: channels stay closed here")
    assert warning["paired_with"] == receiver_number.spell(receiver(1).number)
    other.close()


def test_messages_of_another_system_are_refused_with_advice(running: Running) -> None:
    with running.client() as receiver:
        for section in emm(Right(PRODUCT, 0)):
            receiver.hand_emm(section, CA + 1)
        assert receiver.ask(ecm(PRODUCT), CA + 1)[0] == 0x44
    assert "0x4adf" in str(running.told("channel stays closed")[0]["reason"])
    assert running.bridge.counts["EMMs for this card"] == 0


def test_a_second_receiver_is_hung_up_on_and_the_first_goes_on(running: Running) -> None:
    with running.client() as first:
        assert first.ask(ecm(PRODUCT), CA)[0] == 0x44
        with running.client() as second:
            assert second.receive() == b""
        assert first.ask(ecm(PRODUCT), CA)[0] == 0x44
    assert len(running.told("second receiver refused: one is being served")) == 1
    settled(lambda: running.told("receiver gone"))
    with running.client() as third:
        assert third.ask(ecm(PRODUCT), CA)[0] == 0x44


@pytest.mark.parametrize(
    ("user", "password", "reason"), [("other", PASSWORD, "another user"), (USER, "wrong", "the password is another")]
)
def test_who_may_not_is_hung_up_on(running: Running, user: str, password: str, reason: str) -> None:
    with running.client() as receiver:
        receiver.send(spell(user, password, 0x00, ecm(PRODUCT), ca=CA))
        assert receiver.receive() == b""
    settled(lambda: running.told("receiver gone"))
    assert reason in str(running.told("receiver gone")[0]["reason"])
    assert PASSWORD not in running.stream.getvalue()


def test_a_card_that_was_pulled_is_used_again_when_it_is_back(running: Running) -> None:
    with running.client() as receiver:
        for section in emm(Right(PRODUCT, 0)):
            receiver.hand_emm(section, CA)
        assert receiver.ask(ecm(PRODUCT), CA)[0] == 0x01
        running.reader.empty = True
        assert receiver.ask(ecm(PRODUCT), CA)[0] == 0x44
        assert receiver.ask(ecm(PRODUCT), CA)[0] == 0x44
        running.reader.empty = False
        assert receiver.ask(ecm(PRODUCT), CA)[0] == 0x01
    assert running.reader.connections == 2
    reasons = [str(one["reason"]) for one in running.told("channel stays closed")]
    assert ["taken out" in reasons[0], "no card" in reasons[1]] == [True, True]


def test_a_keep_alive_is_answered_and_the_unknown_passed_over(running: Running) -> None:
    with running.client() as receiver:
        receiver.send(spell(USER, PASSWORD, 0x55, b"?"))
        receiver.send(spell(USER, PASSWORD, 0x37, b""))
        assert receiver.receive() == spell(USER, PASSWORD, 0x37, b"")


def test_control_words_are_never_logged(running: Running) -> None:
    with running.client() as receiver:
        for section in emm(Right(PRODUCT, 0)):
            receiver.hand_emm(section, CA)
        assert receiver.ask(ecm(PRODUCT), CA)[0] == 0x01
    settled(lambda: running.told("receiver gone"))
    for word in (*WORDS, EVEN, ODD):
        assert word.hex() not in running.stream.getvalue().lower()


def test_it_listens_on_the_loopback_only(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.server.port)) as connection:
        assert connection.getpeername()[0] == "127.0.0.1"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [line[1] for line in lines if line[3] == "0A" and line[1].endswith(f":{running.server.port:04X}")]
    assert listening == [f"0100007F:{running.server.port:04X}"]


def test_a_port_that_is_taken_is_told(running: Running) -> None:
    with pytest.raises(ListenError, match="take another with --port"):
        MonitorServer(running.bridge, USER, PASSWORD, running.server.port)


def test_words_lie_where_receivers_look_for_them() -> None:
    words = ControlWords(tuple(map(Secret, WORDS)))
    assert even_and_odd(0x80, words) == EVEN + ODD
    assert even_and_odd(0x81, words) == _summed(WORDS[1]) + _summed(WORDS[0])
    assert even_and_odd(0x81, ControlWords((Secret(WORDS[0]),))) == bytes(8) + _summed(WORDS[0])
    with pytest.raises(ValueError, match="not of CSA2"):
        even_and_odd(0x80, ControlWords((Secret(bytes(16)),)))


def test_an_emm_concerns_its_card_its_group_or_all() -> None:
    own = ADDRESS.to_bytes(5, "big")
    assert concerns(section(0x82, own), ADDRESS)
    assert not concerns(section(0x82, own), ADDRESS + 1)
    assert concerns(section(0x84, own[:4]), ADDRESS ^ 1)
    assert not concerns(section(0x84, own[:4]), ADDRESS + 256)
    assert concerns(section(0x88, b""), ADDRESS)


@pytest.mark.parametrize(
    "handed", [b"", b"\x88", b"\x88\x70\x00", b"\x88\x70\x10" + bytes(16), b"\x80\x70\x30" + b"\1" * 0x30]
)
def test_what_is_no_emm_concerns_nobody(handed: bytes) -> None:
    assert not concerns(handed, ADDRESS)


def test_the_password_comes_from_a_file_of_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "password"
    with pytest.raises(PasswordFileError, match="does not exist; make one"):
        read_password(file)
    file.write_text("secret one\nrest\n")
    file.chmod(0o644)
    with pytest.raises(PasswordFileError, match="chmod 600"):
        read_password(file)
    file.chmod(0o600)
    assert read_password(file) == "secret one"
    file.write_text("\n")
    with pytest.raises(PasswordFileError, match="is empty"):
        read_password(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(PasswordFileError, match="not UTF-8"):
        read_password(file)


@pytest.mark.parametrize("number", ["0", "0x10000", "CONAX", ""])
def test_a_ca_system_id_that_is_none_is_refused(number: str) -> None:
    done = CliRunner().invoke(command, ["--password-file", "x", "--ca-system-id", number])
    assert done.exit_code == 2
    assert "0x4ADE" in done.output


def test_without_settings_the_ca_system_id_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cad.cli.cards.options.DEFAULT_CONFIG", Path("/nonexistent/cad.toml"))
    done = CliRunner().invoke(command, ["--password-file", "x"], env={"CAD_CONFIG": None})
    assert done.exit_code == 2
    assert "--ca-system-id, or the headend's settings" in done.output


def _summed(word: bytes) -> bytes:
    return {WORDS[0]: EVEN, WORDS[1]: ODD}[word]
