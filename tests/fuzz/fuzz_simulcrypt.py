"""Coverage-guided fuzzing of all that reads SimulCrypt: both codecs, the splitter, the sessions of both ends.

Run: scripts/fuzz 60, or python tests/fuzz/fuzz_simulcrypt.py tests/fuzz/corpus/simulcrypt -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports(include=["protocol.simulcrypt"]):
    from protocol.errors import DecodeError
    from protocol.simulcrypt.ecmg_scs import ECMG_SCS
    from protocol.simulcrypt.emmg_mux import EMMG_MUX
    from protocol.simulcrypt.emmg_session import EmmgSession, EmmgSettings
    from protocol.simulcrypt.frame import MessageSplitter, read_frame, write_frame
    from protocol.simulcrypt.mux_session import MuxSession
    from protocol.simulcrypt.schema import Interface, MessageError, describe
    from protocol.simulcrypt.session import Session

SETTINGS = EmmgSettings(client_id=0x4AE60001, data_channel_id=5, data_stream_id=6, data_id=7, bandwidth_kbps=200)


def read(interface: Interface, data: bytes) -> None:
    """As one message of the interface: refused with an error_status of the interface, or read and written back."""
    refusal = 0
    try:
        decoded = interface.decode(data)
    except MessageError as error:
        refusal = error.error_status
    if refusal:
        assert refusal in interface.error_status.values()
        return
    describe(decoded.message)
    assert interface.decode(interface.encode(decoded.message, decoded.protocol_version)) == decoded


def read_emmg_mux(data: bytes) -> None:
    """As a message of EMMG⇔MUX."""
    read(EMMG_MUX, data)


def read_ecmg_scs(data: bytes) -> None:
    """As a message of ECMG⇔SCS."""
    read(ECMG_SCS, data)


def read_any_frame(data: bytes) -> None:
    """As a message of any interface."""
    try:
        frame = read_frame(data)
    except DecodeError:
        return
    assert write_frame(frame) == data


def split(data: bytes) -> None:
    """As a stream: in one piece and byte by byte it gives the same messages."""
    whole, single = MessageSplitter(), MessageSplitter()
    messages = whole.feed(data)
    assert [message for byte in data for message in single.feed(bytes([byte]))] == messages
    assert sum(map(len, messages)) + whole.pending == len(data)


def converse(session: Session, data: bytes) -> None:
    """As what a peer says: no session raises, and what it answers can be read."""
    for start in range(0, len(data), 7):
        session.receive(data[start : start + 7], float(start))
        if isinstance(session, EmmgSession):
            session.handle_timer(float(start))
    answers = MessageSplitter()
    for answer in answers.feed(session.data_to_send()):
        EMMG_MUX.decode(answer)
    assert answers.pending == 0
    session.events()


def talk_to_emmg(data: bytes) -> None:
    """As what a multiplexer says."""
    session = EmmgSession(SETTINGS)
    session.start(0.0)
    converse(session, data)
    session.close(1e6)


def talk_to_mux(data: bytes) -> None:
    """As what an EMMG says over TCP, and over UDP."""
    session = MuxSession(100)
    converse(session, data)
    session.receive_datagram(data)


READERS = (read_emmg_mux, read_ecmg_scs, read_any_frame, split, talk_to_emmg, talk_to_mux)


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
