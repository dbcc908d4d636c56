"""What all parts of one version of an EMM say together."""

from collections.abc import Iterable

from emm.payload import EmmPayload
from emm.seal import OpenedEmm


def join_parts(parts: Iterable[OpenedEmm]) -> EmmPayload:
    """Join the parts of one version, which must all be there, in their order."""
    opened = list(parts)
    headers = [each.header for each in opened]
    assert [header.part for header in headers] == list(range(headers[0].last_part + 1))
    assert len({(header.address, header.key_version, header.version, header.last_part) for header in headers}) == 1
    assert len({each.payload.state for each in opened}) == 1
    return EmmPayload(opened[0].payload.state, tuple(block for each in opened for block in each.payload.blocks))
