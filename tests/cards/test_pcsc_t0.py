"""What the door changes in a command for a T=0 card."""

import pytest

from cards.pcsc import for_t0


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        ("00A40400", "00A40400"),
        ("80CADF2000", "80CADF2000"),
        ("8030820002FFFF", "8030820002FFFF"),
        ("8032800002FFFF00", "8032800002FFFF"),
        ("80328000000002FFFF0000", "80328000000002FFFF0000"),
        ("80", "80"),
    ],
)
def test_only_a_short_case_4_goes_without_its_le(command, sent):
    assert for_t0(bytes.fromhex(command)) == bytes.fromhex(sent)
