"""Hypothesis strategies for SimulCrypt: messages by the table, mutations of their bytes, pieces of a stream."""

import itertools
from typing import Any

from hypothesis import strategies as st

from protocol.simulcrypt.schema import Interface, Message, Parameter


def values(parameter: Parameter) -> st.SearchStrategy[Any]:
    """Values that a parameter may have."""
    if parameter.values is not None:
        return st.sampled_from(sorted(parameter.values))
    if parameter.size is None:
        return st.binary(max_size=300)
    if isinstance(parameter.read(bytes(parameter.size)), bytes):
        return st.binary(min_size=parameter.size, max_size=parameter.size)
    return st.integers(0, 256**parameter.size - 1).map(
        lambda number: parameter.read(number.to_bytes(parameter.size or 0, "big"))
    )


@st.composite
def messages(draw: st.DrawFn, interface: Interface) -> tuple[Message, int]:
    """A valid message of the interface and the protocol version it is valid in."""
    protocol_version = draw(st.sampled_from(sorted(interface.versions)))
    declared = draw(st.sampled_from(list(interface.messages.values())))
    fields: dict[str, Any] = {}
    for use in declared.uses:
        at_least = use.at_least(protocol_version)
        if use.at_most > 1:
            fields[use.field] = tuple(draw(st.lists(values(use.parameter), min_size=at_least, max_size=5)))
        else:
            single = values(use.parameter)
            fields[use.field] = draw(single if at_least else st.none() | single)
    return declared(**fields), protocol_version


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with one to four of them changed, taken out, doubled or cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        position = draw(st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(("change", "remove", "double", "cut")))
        if kind == "change":
            data[position] = draw(st.integers(0, 255))
        elif kind == "remove":
            del data[position]
        elif kind == "double":
            data[position:position] = data[position : position + draw(st.integers(1, 8))]
        else:
            del data[position:]
    return bytes(data)


@st.composite
def pieces(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """The stream cut at arbitrary places."""
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *cuts, len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]
