"""A card's whole life in dialogues: interrupted at every single APDU, resumed, always the same card in the end."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards.apdu import CommandApdu, ResponseApdu
from cards.application import DEFAULT_AID
from cards.errors import CardRefusedError, CardsError
from cards.globalplatform.card_manager import CardManager
from cards.globalplatform.card_state import TRIES_MAX
from cards.globalplatform.commands import CardLifeCycle
from cards.globalplatform.data_groups import PersonalData, ca_keys
from cards.globalplatform.dialogue import link, run
from cards.globalplatform.errors import (
    EncodingError,
    KeyCheckError,
    KeySetBlockedError,
    KeySetUnknownError,
    NotACardManagerError,
    OtherIdentityError,
    WeakChannelError,
    WrongKeyError,
)
from cards.globalplatform.personalisation import (
    Step,
    initialise,
    lock_application,
    personalise,
    read_chip,
    set_card_state,
)
from cards.globalplatform.scp03.keys import Mode, SecurityLevel
from tests.support.cards import ADDRESS, KEYS
from tests.support.globalplatform import (
    DATA,
    IDENTITY,
    LONG_DATA,
    LONG_ORDER,
    ORDER,
    OWN,
    SERIAL,
    TRANSPORT,
    Counter,
    PulledError,
    Reader,
    TestRing,
    static_keys,
    stock,
    terms,
    whole_life,
)

LINK = link(extended=False)
ALL_STEPS = [Step.FOUND, Step.KEYS_LOADED, Step.DATA_STORED, Step.SECURED]


def no_note(_: Step) -> None:
    """For runs whose steps are of no interest."""


def delivered() -> CardManager:
    """A chip as the vendor delivers it: transport keys, INITIALIZED."""
    manager, _ = stock()
    reading = Reader(manager).run(initialise(LINK, terms(), TRANSPORT))
    assert (reading.serial, reading.key_versions) == (SERIAL, (TRANSPORT,))
    assert manager.state.life_cycle is CardLifeCycle.INITIALIZED
    return manager


def finished(manager: CardManager, data: PersonalData = DATA) -> bool:
    """Whether the card is just what was ordered."""
    state = manager.state
    (key_set,) = state.key_sets
    return (
        key_set.keys == static_keys(OWN)
        and key_set.tries_left == TRIES_MAX
        and state.life_cycle is CardLifeCycle.SECURED
        and state.personal == data
        and state.application_usable
    )


def test_a_stock_chip_becomes_a_card() -> None:
    manager = delivered()
    steps: list[Step] = []
    receipt = Reader(manager).run(personalise(LINK, terms(), ORDER, steps.append))
    assert finished(manager)
    assert steps == ALL_STEPS
    assert (receipt.serial, receipt.address, receipt.own_version) == (SERIAL, ADDRESS, OWN)
    assert receipt.check_values["mac"] == static_keys(OWN).mac.check_value().hex().upper()
    assert set(receipt.check_values) == {"enc", "mac", "dek", "card-1", "group-1", "global-1"}


@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("level", [SecurityLevel(level) for level in (0x03, 0x13, 0x33)])
def test_every_key_size_mode_and_encrypting_level_makes_the_same_card(
    size: int, mode: Mode, level: SecurityLevel
) -> None:
    manager, _ = stock(size=size)
    how = terms(TestRing(size), mode, level)
    Reader(manager).run(initialise(LINK, how, TRANSPORT))
    Reader(manager).run(personalise(LINK, how, ORDER, no_note))
    assert manager.state.personal == DATA
    assert manager.state.key_sets[0].keys == static_keys(OWN, size=size)


@pytest.mark.parametrize("level", [SecurityLevel(level) for level in (0x00, 0x01, 0x11)])
def test_keys_are_never_stored_over_a_channel_without_encryption(level: SecurityLevel) -> None:
    for dialogue in (personalise(LINK, terms(level=level), ORDER, no_note), initialise(LINK, terms(level=level), OWN)):
        reader = Reader(delivered())
        with pytest.raises(WeakChannelError):
            reader.run(dialogue)
        assert reader.heard == []


def apdus_of_a_life() -> int:
    reader = Reader(stock()[0])
    reader.run(whole_life(LINK, terms(), LONG_ORDER))
    return len(reader.heard)


APDUS = apdus_of_a_life()


def test_a_life_has_a_good_number_of_apdus() -> None:
    assert 25 <= APDUS <= 35


@pytest.mark.slow
@pytest.mark.parametrize("answer_lost", [False, True])
@pytest.mark.parametrize("at", range(APDUS))
def test_a_life_interrupted_at_any_apdu_is_resumed_to_the_same_end(at: int, answer_lost: bool) -> None:
    manager, memory = stock()
    ring, random = TestRing(), Counter()
    with pytest.raises(PulledError):
        Reader(manager, at, answer_lost).run(whole_life(LINK, terms(ring, random=random), LONG_ORDER))
    again = CardManager(memory, manager._policy)  # the card lost its power
    assert len(again.state.key_sets) == 1
    Reader(again).run(whole_life(LINK, terms(ring, random=random), LONG_ORDER))
    assert finished(again, LONG_DATA)
    assert all(serial == SERIAL for _, serial in ring.asked)


def test_a_life_interrupted_at_every_apdu_one_after_another_ends_well() -> None:
    """The hand that pulls the card does so in every run, one APDU later each time."""
    manager, _ = stock()
    ring, random = TestRing(), Counter()
    for at in range(APDUS):
        try:
            Reader(manager, at, answer_lost=at % 2 == 0).run(whole_life(LINK, terms(ring, random=random), LONG_ORDER))
        except PulledError:
            assert min(s.tries_left for s in manager.state.key_sets) > 0
    Reader(manager).run(whole_life(LINK, terms(ring, random=random), LONG_ORDER))
    assert finished(manager, LONG_DATA)


def test_no_key_is_loaded_twice_and_none_lost_when_an_answer_is_lost() -> None:
    """PUT KEY done, its answer lost: the next run sees the new version and does not load it again."""
    manager = delivered()
    probe = Reader(delivered())
    probe.run(personalise(LINK, terms(), ORDER, no_note))
    put = next(number for number, command in enumerate(probe.heard) if command.ins == 0xD8)
    with pytest.raises(PulledError):
        Reader(manager, put, answer_lost=True).run(personalise(LINK, terms(), ORDER, no_note))
    assert manager.state.key_sets[0].keys == static_keys(OWN)
    reader = Reader(manager)
    reader.run(personalise(LINK, terms(), ORDER, no_note))
    assert not any(command.ins == 0xD8 for command in reader.heard)
    assert finished(manager)


def test_a_finished_card_takes_the_same_order_again_and_nothing_changes() -> None:
    manager = delivered()
    Reader(manager).run(personalise(LINK, terms(), ORDER, no_note))
    before = manager.state
    Reader(manager).run(personalise(LINK, terms(), ORDER, no_note))
    assert finished(manager)
    assert manager.state.personal == before.personal


def test_a_finished_card_never_becomes_another() -> None:
    manager = delivered()
    Reader(manager).run(personalise(LINK, terms(), ORDER, no_note))
    other = PersonalData(replace(IDENTITY, address=ADDRESS + 1), ca_keys(KEYS))
    with pytest.raises(OtherIdentityError):
        Reader(manager).run(personalise(LINK, terms(), replace(ORDER, data=other), no_note))
    assert finished(manager)


def test_incomplete_orders_are_refused_before_the_card_is_touched() -> None:
    reader = Reader(delivered())
    for data in (PersonalData(None, ca_keys(KEYS)), PersonalData(IDENTITY, ())):
        with pytest.raises(EncodingError):
            reader.run(personalise(LINK, terms(), replace(ORDER, data=data), no_note))
    assert reader.heard == []


def test_a_wrong_key_stops_the_run_at_once_and_no_second_is_tried() -> None:
    manager = delivered()
    reader, ring = Reader(manager), TestRing(salt=b"of another delivery")
    with pytest.raises(WrongKeyError):
        reader.run(personalise(LINK, terms(ring), ORDER, no_note))
    assert ring.asked == [(TRANSPORT, SERIAL)]
    assert [command.ins for command in reader.heard].count(0x50) == 1
    assert not any(command.ins == 0x82 for command in reader.heard)
    assert manager.state.key_sets[0].tries_left == TRIES_MAX


def test_a_card_with_neither_key_set_is_told_with_what_it_has() -> None:
    manager, _ = stock()
    reader = Reader(manager)
    with pytest.raises(KeySetUnknownError, match="31 nor 30, but FF"):
        reader.run(personalise(LINK, terms(), ORDER, no_note))
    assert not any(command.ins == 0x50 for command in reader.heard)


def test_a_key_ring_without_the_keys_stops_before_the_proof() -> None:
    reader = Reader(delivered())
    with pytest.raises(KeySetUnknownError):
        reader.run(personalise(LINK, terms(TestRing(known=())), ORDER, no_note))
    assert not any(command.ins == 0x82 for command in reader.heard)


def test_a_blocked_card_is_told_apart() -> None:
    manager, memory = stock()
    state = memory.state
    memory.content = replace(state, key_sets=(replace(state.key_sets[0], tries_left=0),)).encode()
    with pytest.raises(KeySetBlockedError):
        Reader(CardManager(memory, manager._policy)).run(initialise(LINK, terms(), TRANSPORT))


def test_a_card_without_a_card_manager_is_told_apart() -> None:
    with pytest.raises(NotACardManagerError):
        Reader(stock()[0]).run(read_chip(LINK, DEFAULT_AID))


def test_a_terminated_card_refuses_to_be_read() -> None:
    manager = delivered()
    Reader(manager).run(set_card_state(LINK, terms(), TRANSPORT, CardLifeCycle.TERMINATED))
    with pytest.raises(CardRefusedError, match="terminated"):
        Reader(manager).run(read_chip(LINK))


def test_a_false_echo_of_check_values_fails_closed() -> None:
    """A card that puts other keys in and says so honestly is not believed; the run stops."""
    manager = delivered()
    reader = Reader(manager)
    real = manager._commands[0xD8]

    def lies(command: CommandApdu) -> bytes:
        answer = real[0](command)
        return answer[:-1] + bytes((answer[-1] ^ 1,))

    manager._commands[0xD8] = (lies, False)
    with pytest.raises(KeyCheckError):
        reader.run(personalise(LINK, terms(), ORDER, no_note))
    assert manager.state.personal is None


def test_card_and_application_are_locked_and_unlocked() -> None:
    manager = delivered()
    reader = Reader(manager)
    reader.run(personalise(LINK, terms(), ORDER, no_note))
    for change, usable in (
        (lock_application(LINK, terms(), OWN, locked=True), False),
        (lock_application(LINK, terms(), OWN, locked=False), True),
        (set_card_state(LINK, terms(), OWN, CardLifeCycle.CARD_LOCKED), False),
        (set_card_state(LINK, terms(), OWN, CardLifeCycle.SECURED), True),
    ):
        reader.run(change)
        assert manager.state.application_usable is usable


SECRETS: list[bytes] = [
    *(key.reveal() for version in (OWN, TRANSPORT) for key in static_keys(version).keys),
    *(bytes(key) for key in (KEYS.card_key, KEYS.group_key, KEYS.global_key)),
]


@pytest.mark.parametrize("level", [SecurityLevel(level) for level in (0x03, 0x13, 0x33)])
def test_no_key_is_seen_on_the_wire_in_the_receipt_or_in_a_repr(level: SecurityLevel) -> None:
    manager = delivered()
    reader = Reader(manager)
    how = terms(level=level)
    receipt = reader.run(personalise(LINK, how, ORDER, no_note))
    wire = b"".join(apdu.encode() for pair in zip(reader.heard, reader.answered, strict=True) for apdu in pair)
    shown = f"{receipt!r}{manager.state!r}{DATA!r}{ORDER!r}{how!r}{reader.heard!r}{reader.answered!r}"
    for secret in SECRETS:
        assert secret not in wire
        assert secret[:4].hex() not in shown.lower()
        assert repr(bytes(secret[:4]))[2:-1] not in shown


answers = st.lists(
    st.one_of(
        st.builds(
            ResponseApdu, st.sampled_from((0x9000, 0x6283, 0x6A88, 0x6110, 0x6C10, 0x63C2)), st.binary(max_size=60)
        ),
        st.sampled_from([ResponseApdu(0x9000, bytes.fromhex("e012c00401308810c00402308810c00403308810"))]),
        st.sampled_from([ResponseApdu(0x9000, SERIAL + bytes.fromhex("300371") + bytes(35))]),
    ),
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(answers)
def test_a_lying_card_gets_our_own_error_and_never_a_proof(lies: list[ResponseApdu]) -> None:
    heard: list[CommandApdu] = []

    def transmit(command: CommandApdu) -> ResponseApdu:
        heard.append(command)
        return lies[len(heard) - 1] if len(heard) <= len(lies) else ResponseApdu(0x6F00)

    with pytest.raises(CardsError) as caught:
        run(personalise(LINK, terms(), ORDER, no_note), transmit)
    assert caught.value.message
    assert not any(command.ins in (0x82, 0xD8, 0xE2) for command in heard)
