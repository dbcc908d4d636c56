"""The host's side: what it refuses, what it says about it, and that it never tries twice."""

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards.apdu import CommandApdu, ResponseApdu
from cards.application import DEFAULT_AID as CA_AID
from cards.errors import CardRefusedError, CardsError
from cards.globalplatform.card_manager import CardManager, ManagerPolicy
from cards.globalplatform.errors import (
    AuthenticationRefusedError,
    ChannelStateError,
    EncodingError,
    GlobalPlatformError,
    KeyFormatError,
    KeySetBlockedError,
    KeySetUnknownError,
    LevelNotOfferedError,
    NotACardManagerError,
    SecureMessagingError,
    WrongKeyError,
)
from cards.globalplatform.scp03.card import CardChannel, CardHandshake
from cards.globalplatform.scp03.channel import is_protected, is_secured, pad, plain_class, secured_class, unpad
from cards.globalplatform.scp03.host import CardOffer, HostChannel, HostHandshake
from cards.globalplatform.scp03.keys import AesKey, Mode, SecurityLevel, StaticKeys
from tests.support.globalplatform import INITIAL_VERSION, SERIAL, Memory, static_keys, stock

LEVEL = SecurityLevel.C_MAC_C_ENC_R_MAC_R_ENC
CHALLENGE = bytes(range(16))
RIGHT = static_keys(INITIAL_VERSION)


def asked(manager: CardManager, challenge: bytes = CHALLENGE, version: int = 0, level: SecurityLevel = LEVEL):
    """A handshake that has asked the card, and the card's answer."""
    handshake = HostHandshake(challenge, version, level)
    return handshake, manager.answer(handshake.initialize_update())


def both_ends(level: SecurityLevel = LEVEL, challenge: bytes = CHALLENGE) -> tuple[HostChannel, CardChannel]:
    """An open channel, host's and card's end."""
    host = HostHandshake(challenge, 0, level)
    host.initialize_update()
    card = CardHandshake(RIGHT, challenge, challenge)
    mode = Mode(len(challenge))
    options = 0x71 if mode is Mode.S16 else 0x70
    offer = CardOffer(SERIAL, RIGHT.version, options, mode, challenge, card.cryptogram(), None)
    host.receive_offer(ResponseApdu(0x9000, offer.encode()))
    card_channel = card.verify(host.authenticate(RIGHT), level)
    return host.receive_verdict(ResponseApdu(0x9000)), card_channel


def test_the_offer_shows_version_and_diversification_before_any_key_is_used() -> None:
    handshake, answer = asked(stock()[0])
    offer = handshake.receive_offer(answer)
    assert (offer.diversification, offer.key_version, offer.sequence_counter) == (SERIAL, INITIAL_VERSION, 1)


def test_a_wrong_key_is_found_out_before_a_try_is_spent() -> None:
    manager, memory = stock()
    handshake, answer = asked(manager)
    handshake.receive_offer(answer)
    with pytest.raises(WrongKeyError) as caught:
        handshake.authenticate(static_keys(INITIAL_VERSION, salt=b"other"))
    assert memory.state.key_sets[0].tries_left == 10
    assert caught.value.key_version == INITIAL_VERSION


def test_a_handshake_never_takes_a_second_key() -> None:
    handshake, answer = asked(stock()[0])
    handshake.receive_offer(answer)
    with pytest.raises(WrongKeyError):
        handshake.authenticate(static_keys(INITIAL_VERSION, salt=b"other"))
    with pytest.raises(ChannelStateError):
        handshake.authenticate(RIGHT)


def test_right_keys_under_another_version_are_refused() -> None:
    handshake, answer = asked(stock()[0])
    handshake.receive_offer(answer)
    with pytest.raises(WrongKeyError):
        handshake.authenticate(StaticKeys(0x33, RIGHT.enc, RIGHT.mac, RIGHT.dek))


def test_the_error_of_a_wrong_key_tells_no_cryptogram() -> None:
    handshake, answer = asked(stock()[0])
    offer = handshake.receive_offer(answer)
    with pytest.raises(WrongKeyError) as caught:
        handshake.authenticate(static_keys(INITIAL_VERSION, salt=b"other"))
    said = f"{caught.value!r} {caught.value} {caught.value.__dict__}"
    assert offer.card_cryptogram.hex() not in said.lower()
    assert repr(offer.card_cryptogram) not in said
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("sw", "error"),
    [
        (0x6A88, KeySetUnknownError),
        (0x6983, KeySetBlockedError),
        (0x6D00, NotACardManagerError),
        (0x6E00, NotACardManagerError),
        (0x6A82, NotACardManagerError),
        (0x6985, CardRefusedError),
        (0x6F00, CardRefusedError),
    ],
)
def test_refusals_of_initialize_update_are_told_apart(sw: int, error: type[CardsError]) -> None:
    handshake = HostHandshake(CHALLENGE, 0x30, LEVEL)
    handshake.initialize_update()
    with pytest.raises(error) as caught:
        handshake.receive_offer(ResponseApdu(sw))
    assert caught.value.advice
    with pytest.raises(ChannelStateError):
        handshake.authenticate(RIGHT)


@pytest.mark.parametrize(
    ("sw", "error", "left"),
    [
        (0x63C4, AuthenticationRefusedError, 4),
        (0x63C0, AuthenticationRefusedError, 0),
        (0x6300, AuthenticationRefusedError, None),
        (0x6983, KeySetBlockedError, None),
        (0x6982, CardRefusedError, None),
    ],
)
def test_refusals_of_external_authenticate_are_told_apart(sw: int, error: type[CardsError], left: int | None) -> None:
    handshake, answer = asked(stock()[0])
    handshake.receive_offer(answer)
    handshake.authenticate(RIGHT)
    with pytest.raises(error) as caught:
        handshake.receive_verdict(ResponseApdu(sw))
    assert getattr(caught.value, "attempts_remaining", None) == left


def test_a_card_that_offers_another_version_than_asked_is_refused() -> None:
    manager, _ = stock()
    handshake = HostHandshake(CHALLENGE, 0x30, LEVEL)
    handshake.initialize_update()
    other = manager.answer(HostHandshake(CHALLENGE, 0, LEVEL).initialize_update())
    with pytest.raises(KeySetUnknownError):
        handshake.receive_offer(other)


@pytest.mark.parametrize(
    ("options", "challenge", "level"),
    [
        (0x50, bytes(8), SecurityLevel.C_MAC_R_MAC),  # no R-MAC
        (0x30, bytes(8), LEVEL),  # R-MAC, but no R-ENCRYPTION
        (0x70, bytes(16), SecurityLevel.C_MAC),  # S8 only
        (0x71, bytes(8), SecurityLevel.C_MAC),  # S16 only
    ],
)
def test_what_the_card_does_not_offer_is_refused_before_a_try(
    options: int, challenge: bytes, level: SecurityLevel
) -> None:
    handshake = HostHandshake(challenge, 0, level)
    handshake.initialize_update()
    mode = Mode(len(challenge))
    offer = CardOffer(SERIAL, 0x30, options, mode, bytes(mode), bytes(mode), None)
    with pytest.raises(LevelNotOfferedError):
        handshake.receive_offer(ResponseApdu(0x9000, offer.encode()))


def test_a_card_of_another_protocol_is_refused() -> None:
    handshake = HostHandshake(bytes(8), 0, SecurityLevel.C_MAC)
    handshake.initialize_update()
    with pytest.raises(NotACardManagerError, match="02"):
        handshake.receive_offer(ResponseApdu(0x9000, bytes(10) + b"\x20\x02\x55" + bytes(16)))


@given(data=st.binary(max_size=80), mode=st.sampled_from(Mode))
def test_any_answer_to_initialize_update_is_an_offer_or_our_own_error(data: bytes, mode: Mode) -> None:
    try:
        offer = CardOffer.decode(data, mode)
    except (EncodingError, NotACardManagerError):
        return
    assert offer.encode() == data


@pytest.mark.parametrize("size", [0, 7, 9, 15, 17, 32])
def test_a_host_challenge_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ChannelStateError, match="S16"):
        HostHandshake(bytes(size), 0, LEVEL)


def test_steps_out_of_order_are_refused() -> None:
    handshake = HostHandshake(CHALLENGE, 0, LEVEL)
    with pytest.raises(ChannelStateError):
        handshake.authenticate(RIGHT)
    with pytest.raises(ChannelStateError):
        handshake.receive_verdict(ResponseApdu(0x9000))
    handshake.initialize_update()
    with pytest.raises(ChannelStateError):
        handshake.initialize_update()


def test_commands_and_responses_take_turns() -> None:
    host, card = both_ends()
    with pytest.raises(ChannelStateError):
        host.unwrap(ResponseApdu(0x9000))
    wrapped = host.wrap(CommandApdu(0x80, 0xF2, 0x80, 2, b"O\0"))
    with pytest.raises(ChannelStateError):
        host.wrap(CommandApdu(0x80, 0xF2, 0x80, 2))
    card.open(wrapped)
    host.unwrap(card.protect(ResponseApdu(0x9000, b"yes")))
    host.close()
    for call in (
        lambda: host.wrap(CommandApdu(0x80, 0, 0, 0)),
        lambda: host.encrypt_sensitive(b""),
        lambda: host.level,
    ):
        with pytest.raises(ChannelStateError):
            call()


@pytest.mark.slow
@pytest.mark.parametrize("challenge", [bytes(8), bytes(16)])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_of_a_command_is_refused_by_the_card(challenge: bytes, data: st.DataObject) -> None:
    level = data.draw(st.sampled_from([level for level in SecurityLevel if level.command_mac]))
    host, card = both_ends(level, challenge)
    raw = host.wrap(CommandApdu(0x80, 0xD8, 0, 0x81, data.draw(st.binary(max_size=60)))).encode()
    bit = data.draw(st.integers(0, 8 * len(raw) - 1).filter(lambda bit: bit // 8 != 4))  # Lc: the lengths would not fit
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    if bit // 8 == 0 and bit % 8 != 7 and is_secured(changed[0]):
        return  # logical channel and class type are not under the MAC (clause 6.2.4); the card knows one channel only
    with pytest.raises(SecureMessagingError):
        card.open(CommandApdu.decode(bytes(changed)))


@pytest.mark.slow
@pytest.mark.parametrize("challenge", [bytes(8), bytes(16)])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_of_a_response_is_refused_by_the_host(challenge: bytes, data: st.DataObject) -> None:
    level = data.draw(st.sampled_from([level for level in SecurityLevel if level.response_mac]))
    host, card = both_ends(level, challenge)
    card.open(host.wrap(CommandApdu(0x80, 0xF2, 0x80, 2)))
    raw = bytearray(card.protect(ResponseApdu(0x9000, data.draw(st.binary(max_size=60)))).encode())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SecureMessagingError):
        host.unwrap(ResponseApdu.decode(bytes(raw)))
    with pytest.raises(ChannelStateError):
        host.wrap(CommandApdu(0x80, 0xF2, 0x80, 2))


@pytest.mark.parametrize("sw", [0x9000, 0x6283, 0x6310, 0x63C1])
def test_a_bare_success_is_not_believed_where_a_mac_is_due(sw: int) -> None:
    host, _ = both_ends()
    host.wrap(CommandApdu(0x80, 0xF2, 0x80, 2))
    with pytest.raises(SecureMessagingError):
        host.unwrap(ResponseApdu(sw))


def test_an_error_is_bare_and_leaves_the_channel_open() -> None:
    host, card = both_ends()
    card.open(host.wrap(CommandApdu(0x80, 0xF2, 0x80, 2)))
    refused = card.protect(ResponseApdu(0x6A80, b"never sent"))
    assert refused == ResponseApdu(0x6A80)
    assert host.unwrap(refused) == refused
    card.open(host.wrap(CommandApdu(0x80, 0xF2, 0x80, 2, b"still in step")))
    assert host.unwrap(card.protect(ResponseApdu(0x9000, b"yes"))).data == b"yes"


def test_an_error_with_data_is_refused() -> None:
    host, _ = both_ends()
    host.wrap(CommandApdu(0x80, 0xF2, 0x80, 2))
    with pytest.raises(SecureMessagingError):
        host.unwrap(ResponseApdu(0x6A80, b"x"))


def test_replayed_reordered_and_foreign_commands_are_refused() -> None:
    host, card = both_ends()
    first = host.wrap(CommandApdu(0x80, 0xE2, 0x28, 0, b"one"))
    card.open(first)
    with pytest.raises(SecureMessagingError):
        card.open(first)
    _, fresh = both_ends()
    host.unwrap(ResponseApdu(0x6A80))
    second = host.wrap(CommandApdu(0x80, 0xE2, 0x28, 1, b"two"))
    with pytest.raises(SecureMessagingError):
        fresh.open(second)
    _, other = both_ends(challenge=bytes(16))
    with pytest.raises(SecureMessagingError):
        other.open(first)


def test_a_response_to_another_command_is_refused() -> None:
    host, card = both_ends()
    card.open(host.wrap(CommandApdu(0x80, 0xF2, 0x80, 2)))
    old = card.protect(ResponseApdu(0x9000, b"yes"))
    host.unwrap(old)
    host.wrap(CommandApdu(0x80, 0xF2, 0x80, 2))
    with pytest.raises(SecureMessagingError):
        host.unwrap(old)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("level", SecurityLevel)
def test_data_max_is_the_most_that_fits_the_short_form(level: SecurityLevel, mode: Mode) -> None:
    for extra in (0, 1):
        host, _ = both_ends(level, bytes(mode))
        wrapped = host.wrap(CommandApdu(0x80, 0xE2, 0, 0, bytes(host.data_max + extra)))
        assert (len(wrapped.data) <= 255) is (extra == 0)


@given(st.binary(max_size=100))
def test_padding_comes_off_as_it_went_on(data: bytes) -> None:
    assert len(pad(data)) % 16 == 0
    assert unpad(pad(data)) == data


@pytest.mark.parametrize("wrong", [bytes(16), b"x" * 16, b"\x80" + bytes(16), b""])
def test_wrong_padding_is_refused(wrong: bytes) -> None:
    with pytest.raises(SecureMessagingError):
        unpad(wrong)


@given(st.integers(0, 255))
def test_class_bytes_are_secured_and_plain_again(cla: int) -> None:
    assert is_secured(secured_class(cla))
    assert not is_secured(plain_class(cla))
    assert plain_class(secured_class(plain_class(cla))) == plain_class(cla)


@given(st.integers(0, 0xFFFF))
def test_only_success_and_warnings_are_protected(sw: int) -> None:
    assert is_protected(sw) is (sw == 0x9000 or 0x6200 <= sw <= 0x63FF)


def test_keys_do_not_show_themselves() -> None:
    key = AesKey(b"0123456789abcdef")
    for text in (repr(key), str(key), f"{key}", repr(static_keys(1)), repr(vars(both_ends()[0]))):
        assert "0123456789abcdef" not in text
        assert "AES-128" in text or "Channel" in text
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        copy.copy(key)
    with pytest.raises(TypeError):
        hash(key)


def test_keys_are_equal_when_their_bytes_are() -> None:
    assert AesKey(bytes(16)) == AesKey(bytes(16))
    assert AesKey(bytes(16)) != AesKey(bytes(24))
    assert AesKey(bytes(16)) != bytes(16)


@pytest.mark.parametrize("size", [0, 15, 17, 31, 33])
def test_keys_of_another_size_are_refused(size: int) -> None:
    with pytest.raises(KeyFormatError):
        AesKey(bytes(size))


def test_key_sets_that_do_not_go_together_are_refused() -> None:
    short, long = AesKey(bytes(16)), AesKey(bytes(32))
    with pytest.raises(KeyFormatError):
        StaticKeys(1, short, long, short)
    for version in (-1, 0, 0x80, 0xFE, 0x100):
        with pytest.raises(KeyFormatError):
            StaticKeys(version, short, short, short)


def test_a_card_of_one_mode_refuses_the_other() -> None:
    _, memory = stock()
    manager = CardManager(Memory(memory.content), ManagerPolicy(CA_AID, modes=frozenset({Mode.S16})))
    _, answer = asked(manager, bytes(8))
    assert answer.sw == 0x6700


def test_every_error_says_what_to_do() -> None:
    errors: list[GlobalPlatformError] = [
        WrongKeyError(0x30),
        AuthenticationRefusedError(0x30, 3),
        KeySetBlockedError(0x30),
        KeySetUnknownError("x", 0x30),
        SecureMessagingError("x"),
        NotACardManagerError("x"),
        LevelNotOfferedError("x"),
    ]
    assert all(error.advice for error in errors)
    assert "3 tries" in str(errors[1])
