"""A whole chip on files: from stock to an opened channel, through power cuts, locks and its end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cards.apdu import CommandApdu, ResponseApdu
from cards.application import DEFAULT_AID
from cards.errors import CardRefusedError, StateFileError, StorageError, WrongCardError
from cards.globalplatform.chip import CHAIN_MAX, Chip
from cards.globalplatform.commands import CardLifeCycle, select
from cards.globalplatform.data_groups import PersonalData, ca_keys
from cards.globalplatform.dialogue import Dialogue, T, link, run
from cards.globalplatform.manager_file import ManagerFile
from cards.globalplatform.personalisation import initialise, lock_application, personalise, set_card_state
from cards.globalplatform.scp03.keys import Mode
from cards.memory.contents import CardKeys
from cards.session import CardSession
from cards.status_word import StatusWord
from emm.plan import Right
from tests.support.cards import ADDRESS, LADDER, NOW, WORDS, ecm, emm
from tests.support.globalplatform import (
    IDENTITY,
    INITIAL_VERSION,
    ORDER,
    OWN,
    POLICY,
    SERIAL,
    TRANSPORT,
    TestRing,
    static_keys,
    stock,
    terms,
)

SHORT, EXTENDED = link(extended=False), link(extended=True)


def talk(chip: Chip, dialogue: Dialogue[T]) -> T:
    """Drive a dialogue over the chip's bytes."""
    return run(dialogue, lambda command: ResponseApdu.decode(chip.process(command.encode())))


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[Chip]:
    made = Chip.create(tmp_path, SERIAL, static_keys(INITIAL_VERSION), POLICY)
    yield made
    made.close()


def make_card(chip: Chip) -> None:
    talk(chip, initialise(SHORT, terms(), TRANSPORT))
    talk(chip, personalise(SHORT, terms(), ORDER, lambda _: None))


def watch(chip: Chip) -> bytes:
    """Take an EMM with a right, open an ECM; the first control word."""
    session = CardSession(chip.process)
    assert session.read_info().address == ADDRESS
    for section in emm(Right(1, NOW - 100, None)):
        assert session.process_emm(section) in (StatusWord.OK, StatusWord.ALREADY_HELD)
    return bytes(session.process_ecm(ecm(1)).words[0])


@pytest.mark.parametrize("how", [SHORT, EXTENDED])
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("size", [16, 32])
def test_from_stock_to_an_opened_channel(tmp_path: Path, how: object, mode: Mode, size: int) -> None:
    made = Chip.create(tmp_path, SERIAL, static_keys(INITIAL_VERSION, size=size), POLICY)
    with pytest.raises(WrongCardError):
        CardSession(made.process)
    setup = terms(TestRing(size), mode)
    talk(made, initialise(how, setup, TRANSPORT))  # type: ignore[arg-type]
    with pytest.raises(WrongCardError):
        CardSession(made.process)
    talk(made, personalise(how, setup, ORDER, lambda _: None))  # type: ignore[arg-type]
    assert watch(made) == WORDS[0]
    made.close()


def test_the_card_remembers_through_power_cuts(chip: Chip, tmp_path: Path) -> None:
    make_card(chip)
    watch(chip)
    chip.close()
    again = Chip.open(tmp_path, POLICY)
    session = CardSession(again.process)
    assert bytes(session.process_ecm(ecm(1)).words[0]) == WORDS[0]
    again.reset()
    assert again.process(bytes.fromhex("80ca004500"))[-2:] == b"\x90\x00"  # the card manager is selected by default
    again.close()


def test_new_keys_reach_the_application(chip: Chip) -> None:
    make_card(chip)
    watch(chip)
    second = PersonalData(
        IDENTITY, ca_keys(CardKeys.derive(LADDER, ADDRESS)) + ca_keys(CardKeys.derive(LADDER, ADDRESS, 2))
    )
    order = type(ORDER)(TRANSPORT, OWN, second)
    talk(chip, personalise(SHORT, terms(), order, lambda _: None))
    session = CardSession(chip.process)
    assert bytes(session.process_ecm(ecm(1)).words[0]) == WORDS[0]  # rights stay
    for section in emm(Right(1, NOW - 100, None), revision=2, key_version=2):
        assert session.process_emm(section) is StatusWord.OK
    with pytest.raises(CardRefusedError):
        session.process_emm(emm(Right(1, NOW - 100, None), revision=3)[0])


def test_a_locked_application_or_card_opens_nothing(chip: Chip) -> None:
    make_card(chip)
    for lock, unlock in (
        (
            lock_application(SHORT, terms(), OWN, locked=True),
            lock_application(SHORT, terms(), OWN, locked=False),
        ),
        (
            set_card_state(SHORT, terms(), OWN, CardLifeCycle.CARD_LOCKED),
            set_card_state(SHORT, terms(), OWN, CardLifeCycle.SECURED),
        ),
    ):
        talk(chip, lock)
        with pytest.raises(WrongCardError):
            CardSession(chip.process)
        talk(chip, unlock)
        assert watch(chip) == WORDS[0]


def test_a_terminated_card_leaves_no_key_in_any_file(chip: Chip, tmp_path: Path) -> None:
    make_card(chip)
    watch(chip)
    secrets = [key.reveal().hex() for key in static_keys(OWN).keys] + [
        key.key.reveal().hex() for key in ORDER.data.keys
    ]
    before = "".join(path.read_text() for path in tmp_path.iterdir())
    assert all(secret in before for secret in secrets)
    talk(chip, set_card_state(SHORT, terms(), OWN, CardLifeCycle.TERMINATED))
    after = "".join(path.read_text() for path in tmp_path.iterdir())
    assert not any(secret in after for secret in secrets)
    with pytest.raises(WrongCardError):
        CardSession(chip.process)


def test_a_power_cut_before_the_files_are_gone_is_made_up_for(chip: Chip, tmp_path: Path) -> None:
    make_card(chip)
    watch(chip)
    kept = (tmp_path / "application.json").read_bytes()
    talk(chip, set_card_state(SHORT, terms(), OWN, CardLifeCycle.TERMINATED))
    chip.close()
    (tmp_path / "application.json").write_bytes(kept)
    Chip.open(tmp_path, POLICY).close()
    assert not (tmp_path / "application.json").exists()


def test_a_select_that_fails_leaves_the_selection(chip: Chip) -> None:
    make_card(chip)
    CardSession(chip.process)
    assert chip.process(select(b"unknown").encode()) == b"\x6a\x82"
    assert CardSession(chip.process).read_info().address == ADDRESS
    assert chip.process(bytes.fromhex("80cadf2000"))[-2:] == b"\x90\x00"


def test_long_answers_wait_for_get_response(chip: Chip) -> None:
    assert chip.process(bytes.fromhex("00c0000001")) == b"\x69\x85"
    first = chip.process(bytes.fromhex("80ca00e005"))
    assert first[-2:] == bytes((0x61, 15))
    assert chip.process(bytes.fromhex("00c000000a"))[-2:] == bytes((0x61, 5))
    rest = chip.process(bytes.fromhex("00c0000005"))
    assert rest[-2:] == b"\x90\x00"
    assert len(rest) == 7
    chip.process(bytes.fromhex("80ca00e005"))
    chip.process(bytes.fromhex("80ca004500"))
    assert chip.process(bytes.fromhex("00c0000005")) == b"\x69\x85"


def test_a_broken_chain_is_refused(chip: Chip) -> None:
    assert chip.process(bytes.fromhex("90e2280001aa")) == b"\x90\x00"
    assert chip.process(bytes.fromhex("80e2280101aa")) == b"\x68\x83"
    assert chip.process(bytes.fromhex("90e2280001aa")) == b"\x90\x00"
    assert chip.process(bytes.fromhex("80e2280001aa")) == b"\x69\x82"


def test_a_chain_without_end_is_refused(chip: Chip) -> None:
    part = CommandApdu(0x90, 0xE2, 0x28, 0, bytes(255)).encode()
    answers = [chip.process(part) for _ in range(CHAIN_MAX // 255 + 1)]
    assert answers == [b"\x90\x00"] * (CHAIN_MAX // 255) + [b"\x67\x00"]


def test_a_chip_is_held_by_one_program_and_made_once(chip: Chip, tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match="another program"):
        Chip.open(tmp_path, POLICY)
    chip.close()
    with pytest.raises(StorageError, match="already"):
        Chip.create(tmp_path, SERIAL, static_keys(INITIAL_VERSION), POLICY)
    Chip.open(tmp_path, POLICY).close()
    assert chip.process(bytes.fromhex("8050000010") + bytes(17)) == b"\x65\x81"  # closed: it can change nothing


def test_an_empty_directory_has_no_chip(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="empty"):
        Chip.open(tmp_path, POLICY)
    with pytest.raises(StateFileError, match="directory"):
        Chip.open(tmp_path / "missing", POLICY)


def test_the_memory_of_the_manager_is_for_its_owner_only(chip: Chip, tmp_path: Path) -> None:
    path = tmp_path / "manager.json"
    assert path.stat().st_mode & 0o777 == 0o600
    chip.close()
    path.chmod(0o644)
    with pytest.raises(StateFileError, match="others"):
        Chip.open(tmp_path, POLICY)


def test_a_manager_file_that_cannot_be_replaced_keeps_its_content(tmp_path: Path) -> None:
    memory = ManagerFile(tmp_path / "m")
    memory.write(b"old")
    (tmp_path / ".m.new").mkdir()
    with pytest.raises(StateFileError, match="cannot be written"):
        memory.write(b"new")
    assert memory.read() == b"old"
    (tmp_path / "m").write_bytes(bytes(100_001))
    with pytest.raises(StateFileError, match="too large"):
        memory.read()
    memory.close()


def test_the_applications_memory_of_another_card_is_not_used(chip: Chip, tmp_path: Path) -> None:
    from cards.memory.contents import CardMemory
    from cards.memory.state_file import StateFile

    make_card(chip)
    StateFile.create(tmp_path / "application.json", CardMemory(1, CardKeys.derive(LADDER, 1))).close()
    assert chip.process(select(DEFAULT_AID).encode()) == b"\x65\x81"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.binary(max_size=8).map(lambda b: b"\x90\xe2\x28\x00" + b)), max_size=8
    )
)
def test_no_bytes_make_the_chip_raise(chip: Chip, commands: list[bytes]) -> None:
    for command in commands:
        assert len(chip.process(command)) >= 2


def test_reprs_show_no_keys(chip: Chip) -> None:
    make_card(chip)
    assert repr(chip) == "<Chip SECURED>"
    assert static_keys(OWN).enc.reveal().hex()[:8] not in repr(chip.state)
    assert stock()[0].state.serial == SERIAL
    assert chip.atr[0] == 0x3B
