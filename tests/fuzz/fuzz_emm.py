"""Coverage-guided fuzzing of EMMs as a card and `cad emm decode` read them: section, payload, files.

Run: PYTHONPATH=. python tests/fuzz/fuzz_emm.py tests/fuzz/corpus/emm -max_total_time=60
"""

import contextlib
import io
import sys

import atheris

with atheris.instrument_imports(include=["emm", "cad.cli.air.section_files"]):
    from cad.cli.air.section_files import open_sections
    from emm.errors import AuthenticationError, DecodeError
    from emm.message import SECTION_MAX, EmmKind, build_head, parse_emm
    from emm.notices.content import build_content, build_part, parse_content, parse_part
    from emm.notices.seal import open_notice
    from emm.payload import build_payload, parse_payload
    from emm.seal import open_sealed
    from protocol.errors import ProtocolError

KEY = bytes(range(32))


def read_section(data: bytes) -> None:
    """As one section: what is read is built again; nothing opens without the key."""
    try:
        emm = parse_emm(data)
    except DecodeError:
        return
    assert len(data) <= SECTION_MAX
    if len(emm.ciphertext) >= 2:
        head = build_head(emm.header, len(emm.ciphertext))
        # The three reserved bits may differ.
        assert head[:1] + head[2:] == emm.associated_data[:1] + emm.associated_data[2:]
    for opener in (open_sealed, open_notice):
        try:
            opener(emm, KEY)
        except (AuthenticationError, DecodeError):
            continue
        raise AssertionError("opened without its key")


def read_payload(data: bytes) -> None:
    """As a payload that has been opened, for each kind of EMM."""
    for kind in EmmKind:
        with contextlib.suppress(DecodeError):
            payload = parse_payload(kind, data)
            if len(data) <= 223:
                assert build_payload(kind, payload) == data


def read_notice(data: bytes) -> None:
    """As a part of a notice that has been opened, and as the content of one."""
    for kind in EmmKind:
        with contextlib.suppress(DecodeError):
            part = parse_part(kind, data)
            if len(data) <= 222:
                assert parse_part(kind, build_part(kind, part)) == part
    with contextlib.suppress(DecodeError):
        assert build_content(parse_content(data)) == data


def read_file(data: bytes) -> None:
    """As a file given to `cad emm decode`."""
    with contextlib.suppress(ProtocolError):
        for section in open_sections(io.BytesIO(data)).sections():
            with contextlib.suppress(DecodeError):
                parse_emm(section)


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name libFuzzer documents
    """The bytes in each of the roles in which they may come."""
    read_section(data)
    read_payload(data)
    read_notice(data)
    read_file(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, TestOneInput)
    atheris.Fuzz()
