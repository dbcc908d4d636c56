"""Access criteria: two forms, each spelled in one way; anything else is refused with what it should be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.access_criteria import AccessCriteria, ProductsCriteria, ServiceCriteria, build, parse
from protocol.errors import DecodeError, EncodeError

U16 = st.integers(0, 0xFFFF)
SERVICES = st.builds(ServiceCriteria, U16, U16, U16)
PRODUCTS = st.builds(ProductsCriteria, U16, st.lists(U16, min_size=1, max_size=11, unique=True).map(tuple))


@pytest.mark.parametrize(
    ("criteria", "hexadecimal"),
    [
        (ServiceCriteria(0x22F1, 1, 101), "01 22f1 0001 0065"),
        (ServiceCriteria(0, 0, 0xFFFF), "01 0000 0000 ffff"),
        (ProductsCriteria(101, (1,)), "02 0065 0001"),
        (ProductsCriteria(0, (300, 2)), "02 0000 012c 0002"),
    ],
)
def test_published_examples(criteria: AccessCriteria, hexadecimal: str) -> None:
    assert build(criteria) == bytes.fromhex(hexadecimal)
    assert parse(bytes.fromhex(hexadecimal)) == criteria


@given(SERVICES | PRODUCTS)
def test_what_is_built_is_read(criteria: AccessCriteria) -> None:
    assert parse(build(criteria)) == criteria


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda rest: b"\x02" + rest))
def test_any_bytes_are_criteria_in_their_one_spelling_or_refused(data: bytes) -> None:
    try:
        criteria = parse(data)
    except DecodeError:
        return
    assert build(criteria) == data


@pytest.mark.parametrize(
    ("hexadecimal", "reason"),
    [
        ("", "empty"),
        ("00", "begin with 01"),
        ("03 22f1 0001 0065", "not 03"),
        ("01", "7 bytes, not 1"),
        ("01 22f1 0001 0065 00", "7 bytes, not 8"),
        ("02 0065", "1 to 11 product_id"),
        ("02 0065 0001 00", "1 to 11 product_id"),
        ("02 0065" + "".join(f"{number:04x}" for number in range(12)), "1 to 11 product_id"),
        ("02 0065 0001 0001", "twice"),
    ],
)
def test_what_is_wrong_is_said(hexadecimal: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        parse(bytes.fromhex(hexadecimal))


@pytest.mark.parametrize(
    "criteria",
    [
        ServiceCriteria(0x10000, 0, 0),
        ServiceCriteria(0, 0, -1),
        ProductsCriteria(0, ()),
        ProductsCriteria(0, (1, 1)),
        ProductsCriteria(0, tuple(range(12))),
    ],
)
def test_what_cannot_be_written_is_said(criteria: AccessCriteria) -> None:
    with pytest.raises(EncodeError):
        build(criteria)
