"""The codec of commands and responses, against the table of ISO/IEC 7816-3 and round trips."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards.apdu import CommandApdu, ResponseApdu
from cards.errors import ApduError

BYTE = st.integers(0, 255)

# ISO/IEC 7816-3 table 13 and ISO/IEC 7816-4 figure 1: form, bytes, data, Le.
FORMS = [
    ("case 1", "00A40400", b"", None, False),
    ("case 2 short", "80CADF2000", b"", 256, False),
    ("case 2 short, Le 5", "80CADF2005", b"", 5, False),
    ("case 2 extended", "80CADF20000101", b"", 257, True),
    ("case 2 extended, all", "80CADF20000000", b"", 65_536, True),
    ("case 3 short", "00A4040002F001", b"\xf0\x01", None, False),
    ("case 3 extended", "00A404000000 02 F001", b"\xf0\x01", None, True),
    ("case 4 short", "00A4040002F00100", b"\xf0\x01", 256, False),
    ("case 4 extended", "00A40400000002F0010000", b"\xf0\x01", 65_536, True),
]


@pytest.mark.parametrize(("form", "raw", "data", "le", "extended"), FORMS, ids=[form[0] for form in FORMS])
def test_every_form_of_the_standard_reads_and_spells_as_its_table_says(form, raw, data, le, extended):
    command = CommandApdu.decode(bytes.fromhex(raw))
    assert (command.data, command.le, command.extended) == (data, le, extended)
    assert command.case == int(form[5])
    assert command.encode() == bytes.fromhex(raw)


@pytest.mark.parametrize(
    "raw",
    ["", "00", "00A404", "80CADF200001", "00A404000000", "00A4040002F0", "00A4040002F0010000", "00A40400000002F001 00",
     "00A4040000 0000 00", "00A40400000002F0"],
)  # fmt: skip
def test_bytes_that_are_no_command_are_refused_with_their_own_error(raw):
    with pytest.raises(ApduError):
        CommandApdu.decode(bytes.fromhex(raw))


@given(
    BYTE, BYTE, BYTE, BYTE, st.binary(max_size=700), st.none() | st.integers(1, 65_536), st.booleans()
)  # fmt: skip
def test_a_command_survives_its_bytes(cla, ins, p1, p2, data, le, extended):
    command = CommandApdu(cla, ins, p1, p2, data, le, extended)
    read = CommandApdu.decode(command.encode())
    assert (read.cla, read.ins, read.p1, read.p2, read.data, read.le) == (cla, ins, p1, p2, data, le)
    assert read.case == command.case


@given(st.binary(max_size=600))
def test_any_bytes_are_a_command_that_spells_itself_again_or_an_apdu_error(raw):
    try:
        command = CommandApdu.decode(raw)
    except ApduError:
        return
    assert command.encode() == raw


@given(st.integers(0, 0xFFFF), st.binary(max_size=600))
def test_a_response_survives_its_bytes(sw, data):
    assert ResponseApdu.decode(ResponseApdu(sw, data).encode()) == ResponseApdu(sw, data)


@pytest.mark.parametrize("raw", [b"", b"\x90"])
def test_a_response_without_a_status_word_is_refused(raw):
    with pytest.raises(ApduError, match="status word"):
        ResponseApdu.decode(raw)


@pytest.mark.parametrize(
    "fields",
    [(256, 0, 0, 0), (0, -1, 0, 0), (0, 0, 0, 0, bytes(65_536)), (0, 0, 0, 0, b"", 0), (0, 0, 0, 0, b"", 65_537)],
)
def test_fields_that_do_not_fit_are_refused_when_the_command_is_made(fields):
    with pytest.raises(ApduError):
        CommandApdu(*fields)


def test_a_status_word_or_data_that_does_not_fit_is_refused():
    with pytest.raises(ApduError):
        ResponseApdu(0x1_0000)
    with pytest.raises(ApduError):
        ResponseApdu(0x9000, bytes(65_537))


def test_what_a_command_or_response_carries_is_not_in_its_repr():
    secret = bytes.fromhex("c0ffee00c0ffee")
    shown = repr(ResponseApdu(0x9000, secret)) + repr(CommandApdu(0x80, 0x30, 0x82, 0, secret, 256))
    assert secret.hex() not in shown.lower()
    assert str(secret)[2:-1] not in shown
    assert "7 bytes" in shown
