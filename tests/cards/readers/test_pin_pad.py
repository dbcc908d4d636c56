"""PC/SC part 10: lists of features, and the structures that tell a reader where its PIN goes, byte for byte."""

import pytest

from cards.errors import CardReplyError, PinPadError
from cards.readers.pin_pad import (
    GET_FEATURE_REQUEST,
    Feature,
    card_word,
    modify_structure,
    parse_features,
    verify_structure,
)

VERIFY_HEADER, CHANGE_HEADER = bytes.fromhex("00200081"), bytes.fromhex("00240081")


def test_the_control_code_is_that_of_pcsc_lite() -> None:
    from smartcard import scard

    assert scard.SCARD_CTL_CODE(3400) == GET_FEATURE_REQUEST


def test_a_list_of_features_gives_control_codes() -> None:
    # As libccid builds it: verify, modify, properties, TLV properties; one that is not known here.
    answer = bytes.fromhex("06 04 42330006 07 04 42330007 0A 04 4233000A 12 04 42330012 7E 04 4233007E")
    assert parse_features(answer) == {
        Feature.VERIFY_PIN_DIRECT: 0x42330006,
        Feature.MODIFY_PIN_DIRECT: 0x42330007,
        Feature.IFD_PIN_PROPERTIES: 0x4233000A,
        Feature.GET_TLV_PROPERTIES: 0x42330012,
    }
    assert parse_features(b"") == {}


@pytest.mark.parametrize("wrong", ["06", "0604", "0604423300", "060342330006", "06044233000607"])
def test_what_is_no_list_is_refused(wrong: str) -> None:
    with pytest.raises(CardReplyError, match="part 10"):
        parse_features(bytes.fromhex(wrong))


def test_the_structure_of_a_verification() -> None:
    assert verify_structure(VERIFY_HEADER, 4).hex(" ") == (
        "1e 1e"  # 30 s for the first key and for the next
        " 82"  # ASCII, left, counted in bytes, right after the header
        " 04"  # a block of 4 bytes, no length in front
        " 00"
        " 04 04"  # wPINMaxExtraDigit 0x0404: four digits at least and at most
        " 02"  # ends with the OK key
        " 01 09 04 00"  # one message, English, the first
        " 00 00 00"
        " 09 00 00 00"  # nine bytes of command
        " 00 20 00 81 04 ff ff ff ff"
    )


def test_the_structure_of_a_change() -> None:
    assert modify_structure(CHANGE_HEADER, 4).hex(" ") == (
        "1e 1e 82 04 00"
        " 00 04"  # the old PIN at 0, the new one behind it
        " 04 04"
        " 03"  # the old one is asked for, the new one twice
        " 02"
        " 03 09 04 00 01 02"  # three messages, English
        " 00 00 00"
        " 0d 00 00 00"
        " 00 24 00 81 08 ff ff ff ff ff ff ff ff"
    )


@pytest.mark.parametrize(
    ("sw", "words"),
    [("6400", "in time"), ("6401", "cancel"), ("6402", "differently"), ("6403", "too few or too many")],
)
def test_what_the_reader_says_in_place_of_the_card(sw: str, words: str) -> None:
    with pytest.raises(PinPadError, match=words) as caught:
        card_word(bytes.fromhex(sw))
    assert "type the PIN on the reader" in caught.value.advice


def test_what_the_card_says_goes_through() -> None:
    assert [card_word(bytes.fromhex(sw)) for sw in ("9000", "63C2", "6983")] == [0x9000, 0x63C2, 0x6983]
    with pytest.raises(CardReplyError):
        card_word(b"")
