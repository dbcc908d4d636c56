"""Coverage-guided fuzzing of what a scrambler can say to the ECMG: whole sessions, orders, access criteria.

Run: scripts/fuzz 60 ecmg, or python tests/fuzz/fuzz_ecmg.py tests/fuzz/corpus/ecmg -max_total_time=60
"""

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["protocol.simulcrypt.ecmg", "protocol.access_criteria", "cad.ecmg.services"]):
    from cad.ecmg.services import ServiceBook
    from config.settings import NetworkSettings
    from protocol.access_criteria import build, parse
    from protocol.errors import DecodeError
    from protocol.simulcrypt.ecmg.cw_provision import read_cw_provision
    from protocol.simulcrypt.ecmg.ids import IdsInUse
    from protocol.simulcrypt.ecmg.profile import EcmgProfile
    from protocol.simulcrypt.ecmg.session import EcmgSession
    from protocol.simulcrypt.ecmg.words import OrderRefusedError
    from protocol.simulcrypt.ecmg_scs import ECMG_SCS, ChannelSetup, CwProvision, StreamSetup
    from protocol.simulcrypt.frame import MessageSplitter
    from protocol.simulcrypt.schema import MessageError

SERVICE = {"id": "s", "name": "S", "original_network_id": 1, "transport_stream_id": 2, "service_id": 3}
NETWORK = NetworkSettings.model_validate(
    {"id": "n", "services": [SERVICE], "products": [{"id": "p", "product_id": 1, "services": ["s"]}]}
)
BOOK = ServiceBook([NETWORK])
SUPER_CAS_ID = 0x4A750000
OPENING = ECMG_SCS.encode(ChannelSetup(ecm_channel_id=1, super_cas_id=SUPER_CAS_ID), 3) + ECMG_SCS.encode(
    StreamSetup(ecm_channel_id=1, ecm_stream_id=1, ecm_id=1, nominal_cp_duration=100), 3
)


class CheckingMaker:
    """Makes an "ECM" only of what the real one could seal."""

    def make(self, cp_number: int, words: list[bytes], access_criteria: bytes) -> bytes:
        assert 0 <= cp_number <= 0xFFFF
        assert 1 <= len(words) <= 2
        assert {len(word) for word in words} in ({8}, {16})
        audience = BOOK.audience(access_criteria, 0)
        assert audience.product_ids == (1,)
        return b"\x80\x70\x00"

    def prepare(self) -> None:
        """Nothing."""


def converse(opening: bytes, data: bytes, **profile: int) -> None:
    """As what a scrambler says, in pieces: no session raises, every answer can be read, all ids are given back."""
    ids: IdsInUse[EcmgSession] = IdsInUse()
    session = EcmgSession(
        EcmgProfile(super_cas_ids=frozenset({SUPER_CAS_ID}), message_bytes_max=512, **profile),
        ids,
        CheckingMaker(),
        0.0,
    )
    session.receive(opening, 0.0)
    for start in range(0, len(data), 11):
        session.receive(data[start : start + 11], float(start))
        session.handle_timer(float(start))
    answers = MessageSplitter()
    for answer in answers.feed(session.data_to_send()):
        ECMG_SCS.decode(answer)
    assert answers.pending == 0
    assert session.streams == ids.streams
    session.events()
    session.close()
    assert ids.streams == 0
    assert ids.channel_holder(1) is None


def from_the_beginning(data: bytes) -> None:
    """As the first words of a scrambler."""
    converse(b"", data)


def with_an_open_stream(data: bytes) -> None:
    """As what a scrambler says when its stream is open."""
    converse(OPENING, data)


def with_words_one_at_a_time(data: bytes) -> None:
    """The same, each message bringing one control word."""
    converse(OPENING, data, lead_cw=1, cw_per_msg=1)


def order(data: bytes) -> None:
    """As a CW_provision: the fast way and the declaration say the same."""
    fast = read_cw_provision(data, ECMG_SCS.versions)
    declared = None
    try:
        decoded = ECMG_SCS.decode(data)
        if isinstance(decoded.message, CwProvision):
            declared = (decoded.protocol_version, decoded.message)
    except MessageError:
        pass
    assert fast == declared


def criteria(data: bytes) -> None:
    """As access criteria: refused, or written back as they were; and looked up."""
    with contextlib.suppress(DecodeError):
        assert build(parse(data)) == data
    with contextlib.suppress(OrderRefusedError):
        assert BOOK.audience(data, 0).product_ids == (1,)


READERS = (from_the_beginning, with_an_open_stream, with_words_one_at_a_time, order, criteria)


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name that libFuzzer knows
    """The first byte chooses the reader."""
    if data:
        READERS[data[0] % len(READERS)](data[1:])


def main() -> None:
    """Fuzz until told to stop."""
    atheris.Setup(sys.argv, TestOneInput)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
