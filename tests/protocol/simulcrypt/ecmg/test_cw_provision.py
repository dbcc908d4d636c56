"""The fast way of CW_provision and ECM_response says what the declaration says, and leaves it every fault."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import EncodeError
from protocol.simulcrypt.ecmg.cw_provision import read_cw_provision, write_ecm_response
from protocol.simulcrypt.ecmg_scs import ECMG_SCS, VERSIONS, CwProvision, EcmResponse
from protocol.simulcrypt.schema import Decoded, Interface, MessageError
from tests.support.ecmg_dialogue import provision
from tests.support.simulcrypt_strategies import messages, mutated

ORDERS = messages(Interface("orders", (CwProvision,), ECMG_SCS.error_status, VERSIONS))
ORDER = ECMG_SCS.encode(provision(5, cp_duration=100), 3)
USER_DEFINED = bytes.fromhex("8001 0003 010203")


def declared(data: bytes) -> Decoded | None:
    """What the declaration reads, if it is a CW_provision."""
    try:
        decoded = ECMG_SCS.decode(data)
    except MessageError:
        return None
    return decoded if isinstance(decoded.message, CwProvision) else None


def fast(data: bytes) -> Decoded | None:
    read = read_cw_provision(data, VERSIONS)
    return None if read is None else Decoded(*read)


@given(messages(ECMG_SCS))
def test_every_message_is_read_alike(drawn: tuple[object, int]) -> None:
    message, version = drawn
    data = ECMG_SCS.encode(message, version)  # type: ignore[arg-type]
    assert fast(data) == declared(data)
    assert (fast(data) is not None) == isinstance(message, CwProvision)


@given(st.data())
def test_a_changed_message_is_read_alike(data: st.DataObject) -> None:
    message, version = data.draw(ORDERS)
    changed = data.draw(mutated(ECMG_SCS.encode(message, version)))
    assert fast(changed) == declared(changed)


@given(st.binary(max_size=200).map(lambda rest: b"\x03\x02\x01" + len(rest).to_bytes(2, "big") + rest))
def test_any_body_is_read_alike(data: bytes) -> None:
    assert fast(data) == declared(data)


def test_a_usual_order_takes_the_fast_way() -> None:
    assert read_cw_provision(ORDER, {2, 3}) == (3, provision(5, cp_duration=100))


def test_a_version_that_is_not_spoken_does_not() -> None:
    assert read_cw_provision(ORDER, {2}) is None


@pytest.mark.parametrize("size", range(5))
def test_less_than_a_header_does_not(size: int) -> None:
    assert read_cw_provision(ORDER[:size], {3}) is None


def test_user_defined_parameters_are_passed_over() -> None:
    body = ORDER[5:] + USER_DEFINED
    data = ORDER[:3] + len(body).to_bytes(2, "big") + body
    assert read_cw_provision(data, {3}) == (3, provision(5, cp_duration=100))


@given(
    st.sampled_from(sorted(VERSIONS)),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.binary(max_size=400),
)
def test_every_answer_is_written_alike(version: int, channel: int, stream: int, cp: int, ecm: bytes) -> None:
    message = EcmResponse(ecm_channel_id=channel, ecm_stream_id=stream, cp_number=cp, ecm_datagram=ecm)
    assert write_ecm_response(version, channel, stream, cp, ecm) == ECMG_SCS.encode(message, version)


@pytest.mark.parametrize(("channel", "cp", "size"), [(-1, 0, 1), (65536, 0, 1), (0, 65536, 1), (0, 0, 65530)])
def test_what_does_not_fit_is_said(channel: int, cp: int, size: int) -> None:
    with pytest.raises(EncodeError):
        write_ecm_response(3, channel, 0, cp, bytes(size))
