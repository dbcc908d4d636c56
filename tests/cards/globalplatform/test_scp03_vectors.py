"""SCP03 against what others published: transcripts with a real card, a log with session keys, NIST's KDF vectors."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation
from cryptography.hazmat.primitives.kdf.kbkdf import Mode as KbkdfMode

from cards.apdu import CommandApdu, ResponseApdu
from cards.globalplatform.errors import WrongKeyError
from cards.globalplatform.scp03.card import CardHandshake
from cards.globalplatform.scp03.host import CardOffer, HostChannel, HostHandshake
from cards.globalplatform.scp03.keys import (
    AesKey,
    Derivation,
    Mode,
    SecurityLevel,
    SessionKeys,
    StaticKeys,
    counter_kdf,
    derive,
    pseudo_random_challenge,
)
from tests.support.vectors import load_vectors

VECTORS = load_vectors("scp03.json")
TRANSCRIPTS = VECTORS["transcripts"]["cases"]
unhex = bytes.fromhex


def keys_of(case: dict[str, Any]) -> StaticKeys:
    enc, mac, dek = (AesKey(unhex(case[name])) for name in ("enc", "mac", "dek"))
    return StaticKeys(int(case["key_version"], 16), enc, mac, dek)


def handshake_of(case: dict[str, Any]) -> tuple[HostHandshake, CommandApdu, ResponseApdu]:
    command = CommandApdu.decode(unhex(case["initialize_update"]))
    handshake = HostHandshake(command.data, command.p1, SecurityLevel(int(case["security_level"], 16)))
    return handshake, command, ResponseApdu(0x9000, unhex(case["initialize_update_response"]))


def open_host(case: dict[str, Any]) -> HostChannel:
    handshake, _, offer = handshake_of(case)
    handshake.initialize_update()
    handshake.receive_offer(offer)
    handshake.authenticate(keys_of(case))
    return handshake.receive_verdict(ResponseApdu(0x9000))


@pytest.fixture(params=TRANSCRIPTS, ids=[case["name"] for case in TRANSCRIPTS])
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def test_nine_transcripts_of_three_key_sizes_and_three_levels_are_here() -> None:
    assert len({(case["key_version"], case["security_level"]) for case in TRANSCRIPTS}) == 9


def test_host_says_what_the_transcript_says(case: dict[str, Any]) -> None:
    handshake, initialize_update, offer = handshake_of(case)
    assert handshake.initialize_update() == initialize_update
    seen = handshake.receive_offer(offer)
    assert (seen.key_version, seen.options, seen.mode) == (int(case["key_version"], 16), 0x70, Mode.S8)
    assert seen.encode() == offer.data
    assert handshake.authenticate(keys_of(case)).encode() == unhex(case["external_authenticate"])
    channel = handshake.receive_verdict(ResponseApdu(0x9000))
    for step in case["commands"]:
        wrapped = channel.wrap(CommandApdu.decode(unhex(step["plain"])))
        assert wrapped.encode() == unhex(step["secured"])
        if "secured_response" in step:
            response = channel.unwrap(ResponseApdu.decode(unhex(step["secured_response"])))
            assert response.encode() == unhex(step["plain_response"])
        else:
            channel.unwrap(ResponseApdu(0x6A88))  # the transcript has no response; an error is never protected


def test_card_understands_the_transcript_and_answers_as_it_says(case: dict[str, Any]) -> None:
    _, initialize_update, offer = handshake_of(case)
    told = CardOffer.decode(offer.data, Mode.S8)
    card = CardHandshake(keys_of(case), initialize_update.data, told.card_challenge)
    assert card.cryptogram() == told.card_cryptogram
    proof = CommandApdu.decode(unhex(case["external_authenticate"]))
    channel = card.verify(proof, SecurityLevel(proof.p1))
    for step in case["commands"]:
        assert channel.open(CommandApdu.decode(unhex(step["secured"]))).encode() == unhex(step["plain"])
        if "secured_response" in step:
            plain = ResponseApdu.decode(unhex(step["plain_response"]))
            assert channel.protect(plain).encode() == unhex(step["secured_response"])


def test_card_challenges_of_the_transcripts_are_the_pseudo_random_ones(case: dict[str, Any]) -> None:
    told = CardOffer.decode(unhex(case["initialize_update_response"]), Mode.S8)
    assert told.sequence_counter is not None
    aid = unhex(VECTORS["card_challenge"]["aid"])
    assert pseudo_random_challenge(keys_of(case).enc, told.sequence_counter, aid, Mode.S8) == told.card_challenge


def test_transcript_under_a_wrong_key_is_refused(case: dict[str, Any]) -> None:
    right = keys_of(case)
    handshake, _, offer = handshake_of(case)
    handshake.initialize_update()
    handshake.receive_offer(offer)
    with pytest.raises(WrongKeyError):
        handshake.authenticate(StaticKeys(right.version, right.enc, right.dek, right.mac))


@pytest.mark.parametrize("case", VECTORS["session_keys"]["cases"])
def test_session_keys_and_cryptograms_of_a_published_log(case: dict[str, str]) -> None:
    static = StaticKeys(1, AesKey(unhex(case["enc"])), AesKey(unhex(case["mac"])), AesKey(unhex(case["mac"])))
    session = SessionKeys.derive(static, unhex(case["host_challenge"]), unhex(case["card_challenge"]))
    assert session.enc.reveal() == unhex(case["s_enc"])
    assert session.mac.reveal() == unhex(case["s_mac"])
    assert session.card_cryptogram() == unhex(case["card_cryptogram"])
    assert session.host_cryptogram() == unhex(case["host_cryptogram"])


@pytest.mark.parametrize("case", VECTORS["counter_kdf"]["cases"], ids=lambda c: f"{c['prf']}-{c['bits']}-{c['count']}")
def test_counter_kdf_gives_what_nist_says(case: dict[str, Any]) -> None:
    got = counter_kdf(AesKey(unhex(case["key"])), unhex(case["before"]), unhex(case["after"]), case["bits"])
    assert got == unhex(case["output"])


@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize("constant", Derivation)
@pytest.mark.parametrize("bits", [64, 128, 192, 256])
def test_derivation_is_that_of_an_independent_kdf(size: int, constant: Derivation, bits: int) -> None:
    key, context = bytes(range(size)), bytes(range(100, 132))
    if bits % 8 == 0 and bits >= 128:  # the other implementation gives whole keys only
        fixed = bytes(11) + bytes((constant, 0)) + bits.to_bytes(2, "big")
        judge = KBKDFCMAC(
            AES, KbkdfMode.CounterMode, bits // 8, 1, None, CounterLocation.MiddleFixed, None, None,
            fixed + context, break_location=len(fixed),
        )  # fmt: skip
        assert derive(AesKey(key), constant, context, bits) == judge.derive(key)
    else:
        assert len(derive(AesKey(key), constant, context, bits)) == bits // 8


def test_check_value_of_the_well_known_test_key() -> None:
    """Every GlobalPlatform tool prints 504A77 for the default key 40…4F as AES."""
    assert AesKey(bytes(range(0x40, 0x50))).check_value() == unhex("504A77")
