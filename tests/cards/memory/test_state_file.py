"""The state file: round trip, permissions, and what a crash at every single step of writing leaves behind."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards.errors import StateFileError
from cards.mailbox.contents import Incomplete, Letter, Mailbox
from cards.memory import state_file
from cards.memory.contents import CardKeys, CardMemory, Collection, Track
from cards.memory.state_file import StateFile, decode, encode
from cards.software_card import SoftwareCard
from emm.message import EmmKind
from emm.notices.content import Message, build_content
from emm.plan import Right
from tests.support.cards import ADDRESS, KEYS, LADDER, emm
from tests.support.emm_strategies import VERSIONS, payloads

BLANK = CardMemory(ADDRESS, KEYS)
HELLO = build_content(Message(False, 0, 1, (("en", "hello"),)))


@st.composite
def tracks(draw: st.DrawFn, kind: EmmKind) -> Track:
    held = draw(st.none() | VERSIONS)
    content = draw(st.lists(payloads(kind), min_size=1, max_size=3)) if held is not None else []
    collecting = None
    if draw(st.booleans()):
        numbers = sorted(draw(st.sets(st.integers(0, 15), min_size=1, max_size=3)))
        parts = tuple((number, draw(payloads(kind))) for number in numbers)
        collecting = Collection(draw(VERSIONS), numbers[-1], parts)
    return Track(held, tuple(content), collecting)


@st.composite
def memories(draw: st.DrawFn) -> CardMemory:
    address = draw(st.integers(0, 99_999_999_999))
    keys = CardKeys.derive(LADDER, address, draw(st.integers(0, 255)))
    by_kind = {kind: draw(tracks(kind)) for kind in EmmKind}
    return CardMemory(address, keys, by_kind, draw(st.integers(0, 0xFFFF_FFFF)), draw(mailboxes()))


@st.composite
def mailboxes(draw: st.DrawFn) -> Mailbox:
    numbers = sorted(draw(st.sets(st.integers(1, 0xFFFF_FFFF), max_size=5)))
    letters = tuple(Letter(number, HELLO, draw(st.booleans())) for number in numbers[1:])
    incomplete = tuple(Incomplete(number, 2, ((1, b"ello"),)) for number in numbers[:1])
    return Mailbox(letters, incomplete, tuple(numbers[1:]), draw(st.integers(0, 5)))


@pytest.mark.slow
@given(memories())
def test_a_memory_survives_its_file(memory):
    assert decode(encode(memory)) == memory


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_memory_or_a_state_file_error(raw):
    with pytest.raises(StateFileError):
        decode(raw)


def leaves(value, path=()):
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from leaves(inner, (*path, key))
    yield path


@given(st.data())
def test_a_spoilt_value_is_an_error_without_the_value(data):
    document = json.loads(encode(BLANK))
    path = data.draw(st.sampled_from([path for path in leaves(document) if path]))
    place = document
    for step in path[:-1]:
        place = place[step]
    spoilt = data.draw(st.sampled_from([None, -1, 2**70, "zz", "00", [], {}, [1], 1.5, True]))
    if place[path[-1]] == spoilt and type(place[path[-1]]) is type(spoilt):
        return
    place[path[-1]] = spoilt
    said = ""
    try:
        decode(json.dumps(document).encode())
    except StateFileError as error:
        said = str(error)
    for key in (KEYS.card_key, KEYS.group_key, KEYS.global_key):
        assert key.hex() not in said


def test_a_new_file_is_for_its_owner_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with SoftwareCard.create(tmp_path / "card", ADDRESS, KEYS):
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"card": 0o600, ".card.lock": 0o600}


def test_a_file_that_others_may_read_is_refused_with_the_remedy(tmp_path):
    SoftwareCard.create(tmp_path / "card", ADDRESS, KEYS).close()
    (tmp_path / "card").chmod(0o640)
    with pytest.raises(StateFileError) as caught:
        SoftwareCard.open(tmp_path / "card")
    assert f"chmod 600 {tmp_path / 'card'}" in caught.value.advice


def test_missing_existing_foreign_and_unreachable_files_are_told_apart(tmp_path):
    with pytest.raises(StateFileError, match="there is no state file"):
        SoftwareCard.open(tmp_path / "absent")
    SoftwareCard.create(tmp_path / "card", ADDRESS, KEYS).close()
    with pytest.raises(StateFileError, match="exists already"):
        SoftwareCard.create(tmp_path / "card", ADDRESS, KEYS)
    (tmp_path / "foreign").write_text("{}")
    (tmp_path / "foreign").chmod(0o600)
    with pytest.raises(StateFileError, match="is no state file"):
        SoftwareCard.open(tmp_path / "foreign")
    with pytest.raises(StateFileError, match="directory that you may write"):
        SoftwareCard.create(tmp_path / "absent" / "card", ADDRESS, KEYS)
    (tmp_path / "link").symlink_to(tmp_path / "card")
    with pytest.raises(StateFileError, match="cannot be read"):
        SoftwareCard.open(tmp_path / "link")


def test_one_program_at_a_time_holds_a_card(tmp_path):
    card = SoftwareCard.create(tmp_path / "card", ADDRESS, KEYS)
    with pytest.raises(StateFileError, match="used by another program"):
        SoftwareCard.open(tmp_path / "card")
    card.close()
    SoftwareCard.open(tmp_path / "card").close()


def test_a_closed_card_writes_no_more(tmp_path):
    storage = StateFile.create(tmp_path / "card", BLANK)
    storage.close()
    with pytest.raises(StateFileError, match="closed"):
        storage.store(BLANK)


class PowerLossError(BaseException):
    """The process ends here: nothing after it runs."""


STEPS = ["open", "fchmod", "write", "fsync", "close", "replace"]


class FailingOs:
    """The module `os`, where the n-th call that touches the disk does not happen, or (write) happens by half."""

    def __init__(self, fatal: int, error: type[BaseException]):
        self.calls = 0
        self.fatal = fatal
        self.error = error

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in STEPS or not callable(real):
            return real

        def call(*arguments, **named):
            self.calls += 1
            if self.calls == self.fatal:
                if name == "write":
                    os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise self.error(28, "No space left on device") if issubclass(self.error, OSError) else self.error
            return real(*arguments, **named)

        return call


@pytest.mark.parametrize("error", [OSError, PowerLossError])
@pytest.mark.parametrize("fatal", range(1, 12))
def test_a_write_cut_short_at_any_step_leaves_the_old_or_the_new_memory(tmp_path, monkeypatch, error, fatal):
    path = tmp_path / "card"
    storage = StateFile.create(path, BLANK)
    new = replace(BLANK, last_time=77)
    failing = FailingOs(fatal, error)
    monkeypatch.setattr(state_file, "os", failing)
    monkeypatch.setattr(Path, "replace", lambda self, target: failing.replace(self, target))
    try:
        storage.store(new)
        outcome = "stored"
    except (StateFileError, PowerLossError) as raised:
        outcome = type(raised).__name__
    monkeypatch.undo()
    storage.close()
    found = StateFile.open(path)
    assert found.load() in (BLANK, new)
    if outcome == "stored":
        assert found.load() == new
    found.store(new)  # what the crash left lying about is in nobody's way
    assert found.load() == new
    found.close()


def test_the_steps_of_the_test_above_are_all_steps_of_a_write(tmp_path, monkeypatch):
    storage = StateFile.create(tmp_path / "card", BLANK)
    counting = FailingOs(0, OSError)
    monkeypatch.setattr(state_file, "os", counting)
    monkeypatch.setattr(Path, "replace", lambda self, target: counting.replace(self, target))
    storage.store(BLANK)
    assert 8 <= counting.calls < 11
    monkeypatch.undo()
    storage.close()


def test_a_full_disk_is_a_memory_failure_of_the_card_which_goes_on_with_what_it_held(tmp_path, monkeypatch):
    with SoftwareCard.create(tmp_path / "card", ADDRESS, KEYS) as card:
        card.process(bytes.fromhex("00A4040C08F0434144454D4D01"))
        section = emm(Right(3, 0))[0]
        command = bytes((0x80, 0x30, section[0], 0, len(section) - 1)) + section[1:]
        monkeypatch.setattr(state_file, "os", FailingOs(3, OSError))
        assert card.process(command) == b"\x65\x81"
        monkeypatch.undo()
        assert card.memory.state is None
        assert card.process(command) == b"\x90\x00"
        assert card.memory.state == 0


def test_a_card_remembers_through_its_file(tmp_path):
    with SoftwareCard.create(tmp_path / "card", ADDRESS, KEYS) as card:
        card.process(bytes.fromhex("00A4040C08F0434144454D4D01"))
        for section in emm(*[Right(product, 0) for product in range(1, 30)])[:2]:
            card.process(bytes((0x80, 0x30, section[0], 0, len(section) - 1)) + section[1:])
        memory = card.memory
    assert memory.tracks[EmmKind.UNIQUE].collecting is not None
    with SoftwareCard.open(tmp_path / "card") as card:
        assert card.memory == memory
        assert "key" not in repr(card)
