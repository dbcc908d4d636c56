"""The chip's card manager: tries that block, a life that goes one way, keys and data all or nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cards.apdu import CommandApdu, ResponseApdu
from cards.application import DEFAULT_AID
from cards.errors import StorageError
from cards.globalplatform.card_manager import MANAGER_AID, STORE_DATA_MAX, CardManager
from cards.globalplatform.card_state import SEQUENCE_MAX, TRIES_MAX, CardState, KeySet
from cards.globalplatform.commands import (
    CardLifeCycle,
    StatusScope,
    decode_key_information,
    decode_status,
    get_data,
    get_status,
    install_for_personalisation,
    put_keys,
    select,
    set_status,
    store_data,
)
from cards.globalplatform.data_groups import PersonalData, ca_keys, encode_personal_data
from cards.globalplatform.dialogue import SecureMessaging
from cards.globalplatform.errors import AuthenticationRefusedError, KeySetBlockedError, KeySetUnknownError
from cards.globalplatform.scp03.channel import Scp03Channel
from cards.globalplatform.scp03.host import HostHandshake
from cards.globalplatform.scp03.keys import Mode, SecurityLevel, SessionKeys, StaticKeys
from cards.globalplatform.tlv import decode_tlvs
from cards.memory.contents import CardKeys
from tests.support.cards import ADDRESS, KEYS, LADDER, OTHER_LADDER
from tests.support.globalplatform import (
    DATA,
    IDENTITY,
    INITIAL_VERSION,
    OWN,
    POLICY,
    SERIAL,
    TRANSPORT,
    Memory,
    Reader,
    TestRing,
    static_keys,
    stock,
)

FULL = SecurityLevel.C_MAC_C_ENC_R_MAC_R_ENC
OK = 0x9000


def told(secure: SecureMessaging, reader: Reader, command: CommandApdu) -> ResponseApdu:
    """One command through the channel."""
    return reader.run(secure.exchange(command))


def force(manager: CardManager, keys: StaticKeys, challenge: bytes = bytes(16)) -> ResponseApdu:
    """EXTERNAL AUTHENTICATE under these keys, right or wrong, as an attacker or a careless host would send it."""
    handshake = HostHandshake(challenge, keys.version if keys.version <= 0x7F else 0, FULL)
    answer = manager.answer(handshake.initialize_update())
    if answer.sw != OK:
        return answer
    offer = handshake.receive_offer(answer)
    session = SessionKeys.derive(keys, challenge, offer.card_challenge)
    proof = CommandApdu(0x84, 0x82, FULL, 0, session.host_cryptogram())
    return manager.answer(Scp03Channel(session).protect_command(proof))


def wrong(n: int = 0) -> StaticKeys:
    return static_keys(INITIAL_VERSION, salt=b"wrong%d" % n)


def personalised(*, secured: bool = True) -> tuple[CardManager, Memory, Reader]:
    """A chip with key set OWN and the data of the tests."""
    manager, memory = stock()
    state = replace(memory.state, key_sets=(KeySet(static_keys(OWN)),), personal=DATA)
    memory.content = replace(state, life_cycle=CardLifeCycle.SECURED if secured else CardLifeCycle.INITIALIZED).encode()
    manager = CardManager(memory, POLICY)
    return manager, memory, Reader(manager)


def store(secure: SecureMessaging, reader: Reader, data: PersonalData) -> int:
    """INSTALL and STORE DATA; the last status word."""
    assert told(secure, reader, install_for_personalisation(reader.manager.application_aid)).sw == OK
    answers = [
        told(secure, reader, block)
        for block in store_data(encode_personal_data(data, secure.channel.encrypt_sensitive), secure.channel.data_max)
    ]
    return answers[-1].sw


# --- tries ---------------------------------------------------------------------------------------------------------


def test_a_wrong_key_burns_exactly_one_try() -> None:
    manager, memory = stock()
    for spent in range(1, TRIES_MAX):
        assert force(manager, wrong(spent)).sw == 0x63C0 | TRIES_MAX - spent
        assert memory.state.key_sets[0].tries_left == TRIES_MAX - spent


def test_the_last_wrong_try_blocks_for_good_and_the_right_key_comes_too_late() -> None:
    manager, memory = stock()
    answers = [force(manager, wrong(n)).sw for n in range(TRIES_MAX)]
    assert answers[-1] == 0x6983
    assert force(manager, static_keys(INITIAL_VERSION)).sw == 0x6983
    again = CardManager(memory, POLICY)  # power off and on
    assert force(again, static_keys(INITIAL_VERSION)).sw == 0x6983
    with pytest.raises(KeySetBlockedError):
        Reader(again).open(INITIAL_VERSION if INITIAL_VERSION <= 0x7F else 0)


@pytest.mark.parametrize("part", ["cryptogram", "mac"])
def test_cryptogram_and_mac_are_both_checked_and_not_told_apart(part: str) -> None:
    """Each alone is wrong here, under the right keys."""
    manager, memory = stock()
    handshake = HostHandshake(bytes(16), 0, FULL)
    offer = handshake.receive_offer(manager.answer(handshake.initialize_update()))
    session = SessionKeys.derive(static_keys(INITIAL_VERSION), bytes(16), offer.card_challenge)
    cryptogram = bytearray(session.host_cryptogram())
    if part == "cryptogram":
        cryptogram[-1] ^= 1
    proof = Scp03Channel(session).protect_command(CommandApdu(0x84, 0x82, FULL, 0, bytes(cryptogram)))
    if part == "mac":
        proof = replace(proof, data=proof.data[:-1] + bytes((proof.data[-1] ^ 1,)))
    assert manager.answer(proof).sw == 0x63C0 | TRIES_MAX - 1
    assert memory.state.key_sets[0].tries_left == TRIES_MAX - 1
    assert manager.answer(get_status(StatusScope.CARD)).sw == 0x6982


def test_blocked_unknown_and_wrong_are_told_apart() -> None:
    manager, _ = stock()
    with pytest.raises(KeySetUnknownError):
        Reader(manager).open(OWN)
    handshake = HostHandshake(bytes(16), 0, FULL)
    handshake.receive_offer(manager.answer(handshake.initialize_update()))
    handshake.authenticate(static_keys(INITIAL_VERSION))
    with pytest.raises(AuthenticationRefusedError) as caught:
        handshake.receive_verdict(force(manager, wrong()))
    assert caught.value.attempts_remaining == TRIES_MAX - 1


def test_a_right_key_gives_all_tries_back() -> None:
    manager, memory = stock()
    force(manager, wrong())
    assert force(manager, static_keys(INITIAL_VERSION)).sw == OK
    assert memory.state.key_sets[0].tries_left == TRIES_MAX


def test_the_try_is_in_the_memory_before_the_proof_is_looked_at() -> None:
    """Power cut at the moment of the write: the try is gone, whatever the proof was."""
    manager, memory = stock()
    seen: list[int] = []
    memory.on_write = lambda: seen.append(memory.state.key_sets[0].tries_left)
    force(manager, static_keys(INITIAL_VERSION))
    assert seen == [TRIES_MAX, TRIES_MAX - 1, TRIES_MAX]  # INITIALIZE UPDATE, spent, given back


def test_no_try_without_memory() -> None:
    """A card whose memory cannot be written verifies nothing: else tries would be free."""
    manager, memory = stock()
    handshake = HostHandshake(bytes(16), 0, FULL)
    handshake.receive_offer(manager.answer(handshake.initialize_update()))
    proof = handshake.authenticate(static_keys(INITIAL_VERSION))
    memory.broken = True
    assert manager.answer(proof).sw == 0x6581
    assert manager.answer(CommandApdu(0x80, 0x50, 0, 0, bytes(16), 256)).sw == 0x6581
    memory.broken = False
    assert memory.state.key_sets[0].tries_left == TRIES_MAX
    assert manager.answer(proof).sw == 0x6985  # the handshake was good for one attempt


def test_each_key_set_has_its_own_tries() -> None:
    manager, memory = stock()
    reader = Reader(manager)
    secure = reader.open(INITIAL_VERSION if INITIAL_VERSION <= 0x7F else 0)
    assert told(secure, reader, put_keys(secure.channel, 0, static_keys(TRANSPORT)).command).sw == OK
    secure = reader.open(TRANSPORT)
    assert told(secure, reader, put_keys(secure.channel, 0, static_keys(OWN)).command).sw == OK
    for n in range(TRIES_MAX):
        force(manager, static_keys(OWN, salt=b"wrong%d" % n))
    assert [s.tries_left for s in memory.state.key_sets] == [TRIES_MAX, 0]
    reader.open(TRANSPORT)


def test_a_proof_is_good_for_its_handshake_only() -> None:
    manager, memory = stock()
    handshake = HostHandshake(bytes(16), 0, FULL)
    handshake.receive_offer(manager.answer(handshake.initialize_update()))
    proof = handshake.authenticate(static_keys(INITIAL_VERSION))
    assert manager.answer(proof).sw == OK
    assert manager.answer(proof).sw == 0x6985
    manager.answer(CommandApdu(0x80, 0x50, 0, 0, bytes(16), 256))  # the same host challenge again
    assert manager.answer(proof).sw == 0x63C0 | TRIES_MAX - 1
    assert memory.state.key_sets[0].tries_left == TRIES_MAX - 1


def test_challenges_never_come_twice_also_when_old_keys_are_loaded_again() -> None:
    manager, memory = stock()
    reader = Reader(manager)
    seen = set()
    previous, version = 0, 0
    for _ in range(3):
        for coming in (TRANSPORT, OWN):
            secure = reader.open(version)
            seen.add(secure.channel.offer.card_challenge)
            assert told(secure, reader, put_keys(secure.channel, previous, static_keys(coming)).command).sw == OK
            previous = version = coming
    assert len(seen) == 6
    assert memory.state.key_sets[0].sequence == 6


def test_a_spent_sequence_counter_blocks_the_key_set() -> None:
    manager, memory = stock()
    state = memory.state
    memory.content = replace(state, key_sets=(replace(state.key_sets[0], sequence=SEQUENCE_MAX),)).encode()
    manager = CardManager(memory, POLICY)
    assert manager.answer(CommandApdu(0x80, 0x50, 0, 0, bytes(16), 256)).sw == 0x6983


# --- channel -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("level", [level for level in SecurityLevel if level.command_mac])
@pytest.mark.parametrize("size", [16, 24, 32])
def test_a_channel_of_every_mode_level_and_key_size_works(mode: Mode, level: SecurityLevel, size: int) -> None:
    manager, _ = stock(size=size)
    reader = Reader(manager)
    secure = reader.open(0, ring=TestRing(size), mode=mode, level=level)
    for _ in range(3):
        answer = told(secure, reader, get_status(StatusScope.CARD))
        assert decode_status(answer.data)[0].life_cycle == CardLifeCycle.OP_READY


def test_level_00_shows_the_registry_and_changes_nothing() -> None:
    manager, memory = stock()
    reader = Reader(manager)
    secure = reader.open(0, level=SecurityLevel.AUTHENTICATED_ONLY)
    assert told(secure, reader, get_status(StatusScope.CARD)).sw == OK
    before = memory.content
    for command in (
        set_status(StatusScope.CARD, CardLifeCycle.TERMINATED, b""),
        put_keys(secure.channel, 0, static_keys(OWN)).command,
        install_for_personalisation(DEFAULT_AID),
    ):
        assert told(secure, reader, command).sw == 0x6982
    assert memory.content == before


@pytest.mark.parametrize(
    "command",
    [
        get_status(StatusScope.CARD),
        set_status(StatusScope.CARD, 0x07, b""),
        install_for_personalisation(DEFAULT_AID),
        CommandApdu(0x80, 0xD8, 0, 0x81, bytes(60)),
        CommandApdu(0x80, 0xE2, 0xA8, 0, b""),
        CommandApdu(0x84, 0xF2, 0x80, 2, bytes(24)),
    ],
)
def test_without_a_channel_nothing_is_done(command: CommandApdu) -> None:
    assert stock()[0].answer(command).sw == 0x6982


def test_a_bare_command_in_a_channel_ends_it() -> None:
    manager, _ = stock()
    reader = Reader(manager)
    secure = reader.open(0)
    assert manager.answer(get_data(0x45)).sw == 0x6982
    assert told(secure, reader, get_status(StatusScope.CARD)).sw == 0x6982


def test_a_forged_command_in_a_channel_ends_it() -> None:
    manager, _ = stock()
    reader = Reader(manager)
    secure = reader.open(0)
    assert manager.answer(CommandApdu(0x84, 0xF2, 0x80, 2, bytes(32), 256)).sw == 0x6988
    assert told(secure, reader, get_status(StatusScope.CARD)).sw == 0x6982


@pytest.mark.parametrize("end", [CardManager.reset, lambda manager: manager.select(MANAGER_AID)])
def test_reset_and_select_end_the_channel(end: Callable[[CardManager], object]) -> None:
    manager, _ = stock()
    reader = Reader(manager)
    secure = reader.open(0)
    end(manager)
    assert told(secure, reader, get_status(StatusScope.CARD)).sw == 0x6982


@pytest.mark.parametrize(
    ("command", "sw"),
    [
        ("8050000108" + "00" * 8, 0x6A86),
        ("8050000007" + "00" * 7, 0x6700),
        ("8050000000", 0x6700),
        ("8050300008" + "00" * 8, 0x6A88),
        ("8482330010" + "00" * 16, 0x6985),
        ("81ca004500", 0x6881),
        ("c0ca004500", 0x6881),
        ("80ca009900", 0x6A88),
        ("80ff000000", 0x6D00),
        ("10ca004500", 0x6E00),
        ("00f2800202" + "4f00", 0x6E00),
    ],
)
def test_refusals_say_why(command: str, sw: int) -> None:
    assert stock()[0].answer(CommandApdu.decode(bytes.fromhex(command))).sw == sw


@pytest.mark.parametrize(
    ("p1", "p2", "size", "sw"), [(0x02, 0, 32, 0x6A86), (0x33, 1, 32, 0x6A86), (0x33, 0, 31, 0x6700)]
)
def test_a_malformed_external_authenticate_costs_no_try(p1: int, p2: int, size: int, sw: int) -> None:
    manager, memory = stock()
    manager.answer(CommandApdu(0x80, 0x50, 0, 0, bytes(16), 256))
    assert manager.answer(CommandApdu(0x84, 0x82, p1, p2, bytes(size))).sw == sw
    assert memory.state.key_sets[0].tries_left == TRIES_MAX


def test_everyone_may_read_serial_and_key_versions() -> None:
    manager, _ = stock()
    assert decode_tlvs(manager.answer(get_data(0x45)).data) == [(0x45, SERIAL)]
    keys = decode_key_information(manager.answer(get_data(0xE0)).data)
    assert [(key.identifier, key.version, key.kind, key.size) for key in keys] == [
        (i, 0xFF, 0x88, 16) for i in (1, 2, 3)
    ]


def test_select_answers_to_the_name_its_beginning_and_none_other() -> None:
    manager, _ = stock()
    for aid in (b"", MANAGER_AID, MANAGER_AID[:5]):
        answer = manager.select(aid)
        assert answer is not None
        assert dict(decode_tlvs(decode_tlvs(answer.data)[0][1]))[0x84] == MANAGER_AID
    assert manager.select(DEFAULT_AID) is None


# --- keys ----------------------------------------------------------------------------------------------------------


def test_the_first_own_keys_replace_the_initial_ones() -> None:
    manager, memory = stock()
    reader = Reader(manager)
    secure = reader.open(0)
    put = put_keys(secure.channel, 0, static_keys(TRANSPORT, size=32))
    put.check(told(secure, reader, put.command).data)
    assert [s.keys.version for s in memory.state.key_sets] == [TRANSPORT]


@pytest.mark.parametrize(
    ("replaced", "coming", "sw"),
    [(0, OWN, 0x6985), (0x55, 0x40, 0x6A88), (OWN, OWN, OK), (OWN, 0x40, OK), (0, 0x40, OK)],
)
def test_a_key_version_is_on_the_card_once(replaced: int, coming: int, sw: int) -> None:
    manager, memory, reader = personalised()
    secure = reader.open(OWN)
    assert told(secure, reader, put_keys(secure.channel, replaced, static_keys(coming, salt=b"new")).command).sw == sw
    versions = [s.keys.version for s in memory.state.key_sets]
    assert len(versions) == len(set(versions))
    assert manager.state == memory.state


def test_the_card_holds_four_key_sets() -> None:
    _, memory, reader = personalised()
    secure = reader.open(OWN)
    answers = [told(secure, reader, put_keys(secure.channel, 0, static_keys(v)).command).sw for v in range(0x40, 0x44)]
    assert answers == [OK, OK, OK, 0x6A84]
    assert len(memory.state.key_sets) == 4


@pytest.mark.parametrize(
    ("p1", "p2", "change", "sw"),
    [
        (0x80, 0x81, lambda data: data, 0x6A86),
        (0x00, 0x01, lambda data: data, 0x6A86),
        (0x00, 0x81, lambda data: b"", 0x6A80),
        (0x00, 0x81, lambda data: data[:1], 0x6A80),
        (0x00, 0x81, lambda data: data[:-23], 0x6A80),
        (0x00, 0x81, lambda data: b"\xff" + data[1:], 0x6A80),
        (0x00, 0x81, lambda data: b"\x00" + data[1:], 0x6A80),
        (0x00, 0x81, lambda data: data[:-1] + bytes((data[-1] ^ 1,)), 0x6A80),
        (0x00, 0x81, lambda data: data[:4] + bytes((data[4] ^ 1,)) + data[5:], 0x6A80),
        (0x00, 0x81, lambda data: data[:1] + b"\x80" + data[2:], 0x6A80),
    ],
)
def test_a_wrong_put_key_changes_nothing(p1: int, p2: int, change: Callable[[bytes], bytes], sw: int) -> None:
    _, memory, reader = personalised()
    secure = reader.open(OWN)
    command = put_keys(secure.channel, 0, static_keys(0x40)).command
    before = memory.state.key_sets
    assert told(secure, reader, replace(command, p1=p1, p2=p2, data=change(command.data))).sw == sw
    assert memory.state.key_sets == before


def test_a_broken_memory_leaves_the_old_keys() -> None:
    manager, memory, reader = personalised()
    secure = reader.open(OWN)
    memory.broken = True
    assert told(secure, reader, put_keys(secure.channel, OWN, static_keys(0x40)).command).sw == 0x6581
    assert [s.keys.version for s in manager.state.key_sets] == [OWN]


# --- life ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", CardLifeCycle)
@pytest.mark.parametrize("target", CardLifeCycle)
def test_life_goes_where_the_specification_lets_it(start: CardLifeCycle, target: CardLifeCycle) -> None:
    _, memory, _ = personalised()
    memory.content = replace(memory.state, life_cycle=start).encode()
    reader = Reader(CardManager(memory, POLICY))
    if start is CardLifeCycle.TERMINATED:
        before = memory.content
        for command in (get_status(StatusScope.CARD), set_status(StatusScope.CARD, target, b"")):
            assert reader.manager.answer(command).sw == 0x6985
        assert memory.content == before
        return
    secure = reader.open(OWN)
    order = list(CardLifeCycle)
    allowed = target in (start, CardLifeCycle.TERMINATED) or {start, target} == {0x0F, 0x7F}
    allowed = allowed or (start < 0x0F and order.index(target) == order.index(start) + 1)
    assert told(secure, reader, set_status(StatusScope.CARD, target, b"")).sw == (OK if allowed else 0x6985)
    assert memory.state.life_cycle is (target if allowed else start)


def test_a_card_with_initial_keys_cannot_be_initialised_nor_an_empty_one_secured() -> None:
    manager, memory = stock()
    reader = Reader(manager)
    secure = reader.open(0)
    assert told(secure, reader, set_status(StatusScope.CARD, 0x07, b"")).sw == 0x6985
    assert told(secure, reader, put_keys(secure.channel, 0, static_keys(OWN)).command).sw == OK
    assert told(secure, reader, set_status(StatusScope.CARD, 0x07, b"")).sw == OK
    assert told(secure, reader, set_status(StatusScope.CARD, 0x0F, b"")).sw == 0x6985
    assert memory.state.life_cycle is CardLifeCycle.INITIALIZED


def test_a_terminated_card_has_forgotten_every_key_and_answers_to_nobody() -> None:
    manager, memory, reader = personalised()
    secure = reader.open(OWN)
    assert told(secure, reader, set_status(StatusScope.CARD, 0xFF, b"")).sw == OK
    state = memory.state
    assert state.key_sets == ()
    assert state.personal is not None
    assert state.personal.keys == ()
    assert not state.application_usable
    answer = manager.select(b"")
    assert answer is not None
    assert answer.sw == 0x6285
    assert manager.answer(CommandApdu(0x80, 0x50, 0, 0, bytes(16), 256)).sw == 0x6A88


def test_a_locked_card_lets_its_keys_unlock_it_and_nothing_else() -> None:
    manager, memory, reader = personalised()
    secure = reader.open(OWN)
    assert told(secure, reader, set_status(StatusScope.CARD, 0x7F, b"")).sw == OK
    answer = manager.select(b"")
    assert answer is not None
    assert answer.sw == 0x6283
    secure = reader.open(OWN)
    for command in (put_keys(secure.channel, 0, static_keys(0x40)).command, install_for_personalisation(DEFAULT_AID)):
        assert told(secure, reader, command).sw == 0x6985
    assert not memory.state.application_usable
    assert told(secure, reader, set_status(StatusScope.CARD, 0x0F, b"")).sw == OK
    assert memory.state.application_usable


def test_the_application_is_locked_and_unlocked_by_name() -> None:
    _, memory, reader = personalised()
    secure = reader.open(OWN)
    assert told(secure, reader, set_status(StatusScope.APPLICATION, 0x8F, b"other")).sw == 0x6A88
    assert told(secure, reader, set_status(StatusScope.APPLICATION, 0x07, DEFAULT_AID)).sw == 0x6A86
    assert told(secure, reader, set_status(StatusScope.APPLICATION, 0x8F, DEFAULT_AID)).sw == OK
    assert not memory.state.application_usable
    answer = told(secure, reader, get_status(StatusScope.APPLICATION))
    assert (decode_status(answer.data)[0].aid, decode_status(answer.data)[0].life_cycle) == (DEFAULT_AID, 0x8F)
    assert told(secure, reader, set_status(StatusScope.APPLICATION, 0x0F, DEFAULT_AID)).sw == OK
    assert memory.state.application_usable


def test_an_application_without_data_cannot_be_locked() -> None:
    manager, _ = stock()
    reader = Reader(manager)
    secure = reader.open(0)
    assert told(secure, reader, set_status(StatusScope.APPLICATION, 0x8F, DEFAULT_AID)).sw == 0x6985


@pytest.mark.parametrize(
    ("p1", "p2", "data", "sw"),
    [
        (0x80, 0x00, "4f00", 0x6A86),
        (0x20, 0x02, "4f00", 0x6A86),
        (0x80, 0x02, "4f", 0x6A80),
        (0x80, 0x02, "5c00", 0x6A80),
        (0x80, 0x02, "4f0177", 0x6A88),
        (0x80, 0x02, "4f01a0", OK),
    ],
)
def test_get_status_wants_its_criteria(p1: int, p2: int, data: str, sw: int) -> None:
    manager, _ = stock()
    reader = Reader(manager)
    secure = reader.open(0)
    assert told(secure, reader, CommandApdu(0x80, 0xF2, p1, p2, bytes.fromhex(data), 256)).sw == sw


def test_set_status_of_a_state_that_does_not_exist_is_refused() -> None:
    _, _, reader = personalised()
    secure = reader.open(OWN)
    assert told(secure, reader, set_status(StatusScope.CARD, 0x33, b"")).sw == 0x6A86


# --- data ----------------------------------------------------------------------------------------------------------


def test_data_is_stored_all_at_once_with_the_last_block() -> None:
    manager, memory = stock()
    reader = Reader(manager)
    secure = reader.open(0)
    told(secure, reader, install_for_personalisation(DEFAULT_AID))
    blocks = store_data(encode_personal_data(DATA, secure.channel.encrypt_sensitive), 50)
    for block in blocks:
        assert memory.state.personal is None
        assert told(secure, reader, block).sw == OK
    assert memory.state.personal == DATA
    assert CardManager(memory, POLICY).application_aid == DEFAULT_AID


def test_an_identity_is_for_life() -> None:
    _, memory, reader = personalised()
    secure = reader.open(OWN)
    assert store(secure, reader, DATA) == OK
    for other in (
        replace(IDENTITY, address=ADDRESS + 1),
        replace(IDENTITY, issuer="Other"),
        replace(IDENTITY, aid=b"other"),
    ):
        assert store(secure, reader, PersonalData(other, ca_keys(KEYS))) == 0x6985
    assert memory.state.personal == DATA


def test_new_key_versions_are_added_and_old_ones_never_change() -> None:
    _, memory, reader = personalised()
    secure = reader.open(OWN)
    second = ca_keys(CardKeys.derive(LADDER, ADDRESS, 2))
    assert store(secure, reader, PersonalData(None, second)) == OK
    assert memory.state.personal is not None
    assert memory.state.personal.versions == (1, 2)
    assert memory.state.personal.identity == IDENTITY
    foreign = ca_keys(CardKeys.derive(OTHER_LADDER, ADDRESS, 2))
    assert store(secure, reader, PersonalData(None, foreign)) == 0x6985
    third = ca_keys(CardKeys.derive(LADDER, ADDRESS, 3))
    assert store(secure, reader, PersonalData(None, third[:2])) == 0x6A80
    assert memory.state.personal.versions == (1, 2)


@pytest.mark.parametrize(
    "data", [PersonalData(None, ca_keys(KEYS)), PersonalData(IDENTITY, ()), PersonalData(None, ())]
)
def test_an_empty_card_takes_only_everything(data: PersonalData) -> None:
    manager, memory = stock()
    reader = Reader(manager)
    assert store(reader.open(0), reader, data) == 0x6A80
    assert memory.state.personal is None


def test_store_data_wants_its_application_and_its_blocks_in_order() -> None:
    manager, memory = stock()
    reader = Reader(manager)
    secure = reader.open(0)
    blocks = store_data(encode_personal_data(DATA, secure.channel.encrypt_sensitive), 100)
    assert told(secure, reader, blocks[0]).sw == 0x6985  # no INSTALL
    assert told(secure, reader, install_for_personalisation(b"other")).sw == 0x6A88
    assert told(secure, reader, replace(install_for_personalisation(DEFAULT_AID), p1=0x04)).sw == 0x6A86
    told(secure, reader, install_for_personalisation(DEFAULT_AID))
    assert told(secure, reader, blocks[1]).sw == 0x6A86  # block 0 is missing
    assert told(secure, reader, blocks[0]).sw == 0x6985  # and it must begin anew
    told(secure, reader, install_for_personalisation(DEFAULT_AID))
    assert told(secure, reader, blocks[0]).sw == OK
    assert told(secure, reader, blocks[0]).sw == 0x6A86
    told(secure, reader, install_for_personalisation(DEFAULT_AID))
    assert told(secure, reader, replace(blocks[0], p1=0x88)).sw == 0x6A86
    assert memory.state.personal is None


def test_half_stored_data_is_forgotten_by_another_command() -> None:
    manager, memory = stock()
    reader = Reader(manager)
    secure = reader.open(0)
    told(secure, reader, install_for_personalisation(DEFAULT_AID))
    first, *rest = store_data(encode_personal_data(DATA, secure.channel.encrypt_sensitive), 100)
    told(secure, reader, first)
    told(secure, reader, get_status(StatusScope.CARD))
    assert told(secure, reader, rest[0]).sw == 0x6A86
    assert memory.state.personal is None


def test_too_much_data_is_refused() -> None:
    manager, _ = stock()
    reader = Reader(manager)
    secure = reader.open(0)
    told(secure, reader, install_for_personalisation(DEFAULT_AID))
    answers = [told(secure, reader, block).sw for block in store_data(bytes(STORE_DATA_MAX + 200), 200)]
    assert answers[20] == 0x6A84
    assert set(answers[:20]) == {OK}
    assert set(answers[21:]) == {0x6985}


def test_keys_under_another_dek_are_refused() -> None:
    _, memory, reader = personalised(secured=False)
    secure = reader.open(OWN)
    told(secure, reader, install_for_personalisation(DEFAULT_AID))
    second = PersonalData(None, ca_keys(CardKeys.derive(LADDER, ADDRESS, 2)))
    (block,) = store_data(encode_personal_data(second, static_keys(TRANSPORT).dek.encrypt_cbc), 200)
    assert told(secure, reader, block).sw == 0x6A80
    assert memory.state.personal == DATA


# --- memory --------------------------------------------------------------------------------------------------------


def test_state_is_read_as_it_was_written() -> None:
    _, memory, _ = personalised()
    state = replace(memory.state, application_locked=True)
    assert CardState.decode(state.encode()) == state


@given(st.one_of(st.binary(max_size=60), st.sampled_from([b"{}", b"[]", b'{"format":1}', b"null"])))
def test_damaged_memory_is_our_own_error(content: bytes) -> None:
    with pytest.raises(StorageError):
        CardState.decode(content)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ('"tries_left":10', '"tries_left":11'),
        ('"tries_left":10', '"tries_left":-1'),
        ('"sequence":0', '"sequence":16777216'),
        ('"serial":"00', '"serial":"'),
        ('"purpose":33025', '"purpose":33026'),
        ('"format":1', '"format":2'),
        ('"life_cycle":15', '"life_cycle":14'),
    ],
)
def test_what_no_card_ever_wrote_is_not_believed(written: str, instead: str) -> None:
    content = (personalised()[1].content or b"").decode()
    assert written in content
    with pytest.raises(StorageError):
        CardState.decode(content.replace(written, instead).encode())


@given(st.data())
def test_a_damaged_memory_shows_no_key(data: st.DataObject) -> None:
    content = bytearray(personalised()[1].content or b"")
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        CardState.decode(bytes(content))
    except StorageError as caught:
        said = f"{caught!r}{caught.__dict__}{caught.__cause__}"
    else:
        return
    assert static_keys(OWN).enc.reveal().hex()[:8] not in said


def test_a_manager_without_memory_says_so() -> None:
    with pytest.raises(StorageError, match="empty"):
        CardManager(Memory(), POLICY)
    with pytest.raises(StorageError, match="10 bytes"):
        CardState.stock(b"short", static_keys(INITIAL_VERSION))


# --- anything ------------------------------------------------------------------------------------------------------

INSTRUCTIONS = (0x50, 0x82, 0xCA, 0xD8, 0xE2, 0xE6, 0xF0, 0xF2, 0xA4, 0xC0, 0x00, 0xFF)
apdus = st.builds(
    CommandApdu,
    st.one_of(st.sampled_from((0x00, 0x80, 0x84, 0x90, 0x94)), st.integers(0, 255)),
    st.one_of(st.sampled_from(INSTRUCTIONS), st.integers(0, 255)),
    st.one_of(st.sampled_from((0x00, 0x20, 0x30, 0x33, 0x40, 0x80, 0xA8)), st.integers(0, 255)),
    st.one_of(st.sampled_from((0x00, 0x02, 0x0F, 0x81, 0xFF)), st.integers(0, 255)),
    st.one_of(st.binary(max_size=70), st.sampled_from((bytes(8), bytes(16), b"O\0", bytes(32)))),
    st.none() | st.integers(1, 256),
    st.booleans(),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(apdus, max_size=6))
def test_no_apdu_makes_the_card_manager_raise(commands: list[CommandApdu]) -> None:
    manager, memory = stock()
    for command in commands:
        assert isinstance(manager.answer(command), ResponseApdu)
    assert memory.state == manager.state
    assert memory.state.life_cycle is CardLifeCycle.OP_READY


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(apdus, max_size=8), st.booleans())
def test_no_apdu_in_a_channel_makes_the_card_manager_raise(commands: list[CommandApdu], fresh: bool) -> None:
    manager, memory, reader = personalised(secured=not fresh)
    secure = reader.open(OWN)
    for command in commands:
        if (command.cla, command.ins) == (0x80, 0x50) or command.ins == 0x82:
            continue  # the secured form is no handshake
        answer = manager.answer(secure.channel.wrap(command))
        secure.channel.unwrap(answer)
    assert memory.state == manager.state
    assert memory.state.personal is not None
    assert memory.state.personal.identity == IDENTITY


class AttackedManager(RuleBasedStateMachine):
    """Somebody without keys plays with the card: no tries come back, nothing changes but tries and counters."""

    def __init__(self) -> None:
        super().__init__()
        self.manager, self.memory = stock()
        self.spent = 0
        self.guesses = 0

    @rule()
    def guess(self) -> None:
        self.guesses += 1
        answer = force(self.manager, wrong(self.guesses))
        self.spent = min(self.spent + 1, TRIES_MAX)
        left = TRIES_MAX - self.spent
        assert answer.sw == (0x63C0 | left if left else 0x6983)

    @rule()
    def ask(self) -> None:
        answer = self.manager.answer(CommandApdu(0x80, 0x50, 0, 0, bytes(8), 256))
        assert answer.sw == (OK if self.spent < TRIES_MAX else 0x6983)

    @rule()
    def pull(self) -> None:
        self.manager = CardManager(self.memory, POLICY)

    @rule(command=apdus)
    def anything(self, command: CommandApdu) -> None:
        if (command.cla, command.ins) != (0x84, 0x82):
            self.manager.answer(command)

    @rule()
    def choose(self) -> None:
        self.manager.select(select(b"").data)

    @invariant()
    def nothing_changes_but_tries_and_counters(self) -> None:
        (held,) = self.memory.state.key_sets
        assert held.tries_left == TRIES_MAX - self.spent
        assert replace(self.memory.state, key_sets=()) == replace(CardState.stock(SERIAL, held.keys), key_sets=())


AttackedManager.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestAttackedManager = pytest.mark.slow(AttackedManager.TestCase)
