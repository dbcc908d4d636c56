"""S8 and S16 at every level and key size against a second implementation that shares no code with the first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards.apdu import CommandApdu, ResponseApdu
from cards.globalplatform.scp03.card import CardHandshake
from cards.globalplatform.scp03.host import CardOffer, HostHandshake
from cards.globalplatform.scp03.keys import AesKey, Mode, SecurityLevel, StaticKeys
from tests.support.scp03_reference import ReferenceSession, cmac
from tests.support.vectors import load_vectors

INITIALIZE_UPDATE = bytes.fromhex("80503000")
OPTIONS = {Mode.S8: 0x70, Mode.S16: 0x71}

headers = st.tuples(st.just(0x80), *[st.integers(0, 255)] * 3).map(bytes)
exchanges = st.lists(
    st.tuples(
        headers, st.binary(max_size=223), st.booleans(), st.binary(max_size=223), st.sampled_from((0x9000, 0x6310))
    ),
    min_size=1,
    max_size=4,
)


def test_the_reference_keeps_to_the_public_transcripts() -> None:
    """The judge is judged first: S8 transcripts of a real card, byte for byte."""
    for case in load_vectors("scp03.json")["transcripts"]["cases"]:
        told = CardOffer.decode(bytes.fromhex(case["initialize_update_response"]), Mode.S8)
        enc, mac = bytes.fromhex(case["enc"]), bytes.fromhex(case["mac"])
        challenge = bytes.fromhex(case["initialize_update"])[5:13]
        session = ReferenceSession(enc, mac, challenge, told.card_challenge, int(case["security_level"], 16))
        assert session.card_cryptogram == told.card_cryptogram
        assert session.external_authenticate() == bytes.fromhex(case["external_authenticate"])
        for step in case["commands"]:
            plain = CommandApdu.decode(bytes.fromhex(step["plain"]))
            le = b"" if plain.le is None else b"\0"
            header = bytes((plain.cla, plain.ins, plain.p1, plain.p2))
            assert session.command(header, plain.data, le) == bytes.fromhex(step["secured"])
            if "secured_response" in step:
                response = ResponseApdu.decode(bytes.fromhex(step["plain_response"]))
                assert session.response(response.data, b"\x90\x00") == bytes.fromhex(step["secured_response"])


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, "bb1d6929e95937287fa37d129b756746"), (16, "070a16b46b4d4144f79bdd9dd04a287c")],
)
def test_the_reference_cmac_is_that_of_rfc_4493(size: int, expected: str) -> None:
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    message = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")[:size]
    assert cmac(key, message).hex() == expected


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize("level", SecurityLevel)
@pytest.mark.parametrize("mode", Mode)
@settings(max_examples=4, deadline=None)
@given(secret=st.binary(min_size=64, max_size=64), challenges=st.binary(min_size=32, max_size=32), talk=exchanges)
def test_host_and_card_agree_with_the_reference(
    size: int,
    level: SecurityLevel,
    mode: Mode,
    secret: bytes,
    challenges: bytes,
    talk: list[tuple[bytes, bytes, bool, bytes, int]],
) -> None:
    enc, mac = secret[:size], secret[32 : 32 + size]
    host_challenge, card_challenge = challenges[:mode], challenges[16 : 16 + mode]
    keys = StaticKeys(0x30, AesKey(enc), AesKey(mac), AesKey(enc))
    reference = ReferenceSession(enc, mac, host_challenge, card_challenge, level)

    card = CardHandshake(keys, host_challenge, card_challenge)
    assert card.cryptogram() == reference.card_cryptogram
    host = HostHandshake(host_challenge, 0x30, level)
    assert host.initialize_update().encode() == INITIALIZE_UPDATE + bytes((mode,)) + host_challenge + b"\0"
    offer = CardOffer(bytes(10), 0x30, OPTIONS[mode], mode, card_challenge, reference.card_cryptogram, 7)
    host.receive_offer(ResponseApdu(0x9000, offer.encode()))
    proof = host.authenticate(keys)
    assert proof.encode() == reference.external_authenticate()
    card_channel = card.verify(proof, level)
    host_channel = host.receive_verdict(ResponseApdu(0x9000))

    for header, data, answered, answer, sw in talk:
        le = 256 if answered else None
        command = CommandApdu(*header, data, le)
        wrapped = host_channel.wrap(command)
        assert wrapped.encode() == reference.command(header, data, b"\0" if answered else b"")
        opened = card_channel.open(CommandApdu.decode(wrapped.encode()))
        assert (opened.ins, opened.p1, opened.p2, opened.data, opened.le) == (*header[1:], data, le)
        protected = card_channel.protect(ResponseApdu(sw, answer))
        assert protected.encode() == reference.response(answer, sw.to_bytes(2, "big"))
        assert host_channel.unwrap(protected) == ResponseApdu(sw, answer)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("length", [224, 240, 255, 256, 300, 2000])
def test_long_commands_take_the_extended_form_under_the_mac(mode: Mode, length: int) -> None:
    enc, mac, challenge = bytes(range(16)), bytes(range(16, 32)), bytes(mode)
    keys = StaticKeys(0x30, AesKey(enc), AesKey(mac), AesKey(enc))
    level = SecurityLevel.C_MAC_C_ENC_R_MAC_R_ENC
    reference = ReferenceSession(enc, mac, challenge, challenge, level)
    host = HostHandshake(challenge, 0, level)
    host.initialize_update()
    offer = CardOffer(bytes(10), 0x30, OPTIONS[mode], mode, challenge, reference.card_cryptogram, None)
    host.receive_offer(ResponseApdu(0x9000, offer.encode()))
    assert host.authenticate(keys).encode() == reference.external_authenticate()
    channel = host.receive_verdict(ResponseApdu(0x9000))
    wrapped = channel.wrap(CommandApdu(0x80, 0xE2, 0x80, 0, bytes(length)))
    assert wrapped.encode() == reference.command(bytes.fromhex("80e28000"), bytes(length), b"")
