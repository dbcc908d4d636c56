"""Hypothesis strategies for what cards are told."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from emm.calendar import TIME_MAX, Calendar
from emm.ecm import EcmHeader, Parity
from emm.message import ADDRESS_MAX, EmmHeader, EmmKind, Version, payload_max
from emm.payload import CardState, EmmPayload, OpaqueBlock, ProductKeys, RightsBlock, build_payload
from emm.plan import CardContent, Right, Window
from emm.secret import Secret
from emm.traits import (
    NO_TRAITS,
    PairingBlock,
    ParentalBlock,
    PinResetBlock,
    RegionBlock,
    TraitBlock,
    Traits,
    said_by,
    trait_sizes,
)
from protocol import receiver_number

U8, U16, U32 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32))
PRODUCT_IDS = st.integers(1, 0xFFFF)
ADDRESSES = st.integers(0, ADDRESS_MAX)
VERSIONS = st.builds(Version, U16, U32)
SIV_KEYS = st.binary(min_size=32, max_size=32)
KEYS = st.binary(min_size=16, max_size=16).map(Secret)


@st.composite
def headers(draw: st.DrawFn, kind: EmmKind | None = None) -> EmmHeader:
    kind = draw(st.sampled_from(EmmKind)) if kind is None else kind
    address = {EmmKind.UNIQUE: ADDRESSES, EmmKind.GROUP: U32, EmmKind.GLOBAL: st.just(0)}[kind]
    last_part = draw(st.integers(0, 15))
    return EmmHeader(kind, draw(address), draw(U8), draw(VERSIONS), draw(st.integers(0, last_part)), last_part)


@st.composite
def rights_blocks(draw: st.DrawFn) -> RightsBlock:
    start = draw(st.integers(0, 0xFFFF_FFFE))
    key_count = draw(st.integers(1, 2))
    keys = st.tuples(*[KEYS] * key_count)
    return RightsBlock(
        start,
        draw(st.integers(start + 1, 0xFFFF_FFFF)),
        draw(st.integers(0, 0xFFFF - key_count + 1)),
        tuple(draw(st.lists(st.builds(ProductKeys, PRODUCT_IDS, keys), min_size=1, max_size=5))),
    )


RECEIVERS = st.integers(1, receiver_number.SERIAL_MAX).map(receiver_number.of_serial)
AGES = st.integers(4, 18)
TRAITS = st.builds(Traits, st.none() | RECEIVERS, parental=st.just(0) | AGES, pin_reset=U32, region=U16)
TRAIT_BLOCKS = (
    st.builds(PairingBlock, RECEIVERS, KEYS)
    | st.builds(RegionBlock, st.integers(1, 0xFFFF))
    | st.builds(ParentalBlock, AGES)
    | st.builds(PinResetBlock, st.integers(1, 0xFFFF_FFFF))
)
OPAQUE_BLOCKS = st.builds(OpaqueBlock, st.integers(0x80, 0xFF).filter(lambda tag: tag != 0xA0), st.binary(max_size=40))


@st.composite
def payloads(draw: st.DrawFn, kind: EmmKind) -> EmmPayload:
    unique = kind is EmmKind.UNIQUE
    state = draw(st.sampled_from(CardState)) if unique else CardState.ACTIVE
    blocks: list[RightsBlock | TraitBlock | OpaqueBlock] = [
        *draw(st.lists(rights_blocks() | OPAQUE_BLOCKS if unique else OPAQUE_BLOCKS, max_size=4)),
        *draw(st.lists(TRAIT_BLOCKS, max_size=4, unique_by=type) if unique else st.just([])),
    ]
    while len(build_payload(kind, EmmPayload(state, ()))) + sum(map(_size, blocks)) > payload_max(kind):
        blocks.pop()
    return EmmPayload(state, tuple(blocks))


def _size(block: RightsBlock | TraitBlock | OpaqueBlock) -> int:
    if isinstance(block, OpaqueBlock):
        return 2 + len(block.value)
    if isinstance(block, TraitBlock):
        return sum(trait_sizes(said_by([block])))
    return 13 + sum(2 + 16 * len(product.keys) for product in block.products)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    start = draw(st.integers(0, 0xFFFF_FFFE))
    key_count = draw(st.integers(1, 2))
    return Window(
        start,
        draw(st.integers(start + 1, 0xFFFF_FFFF)),
        draw(st.integers(0, 0xFFFF - key_count + 1)),
        key_count,
        tuple(sorted(draw(st.sets(PRODUCT_IDS, min_size=1, max_size=30)))),
    )


CONTENTS = st.builds(
    CardContent, st.just(False), st.lists(windows(), max_size=3).map(tuple), TRAITS | st.just(NO_TRAITS)
) | st.builds(CardContent, st.just(True), st.just(()), TRAITS)


def _calendar(numbers: tuple[int, int, int, int]) -> Calendar:
    period_days, epoch_periods, overlap, lead = numbers
    return Calendar(period_days, epoch_periods, 1 + overlap % epoch_periods, lead * period_days * 21_600)


CALENDARS = st.tuples(st.integers(1, 40), st.integers(1, 8), st.integers(0, 7), st.integers(0, 4)).map(_calendar)

_MOMENTS = st.tuples(st.integers(0, 4), st.integers(-2, 2)) | st.tuples(st.just(5), st.integers(0, 1 << 20))
_RIGHTS = st.tuples(st.integers(1, 3), _MOMENTS, st.none() | _MOMENTS)
_CASES = st.tuples(
    CALENDARS,
    st.integers(0, 0xFFFF),
    st.lists(_RIGHTS, max_size=6),
    st.lists(_MOMENTS, min_size=1, max_size=8),
)


@dataclass(frozen=True)
class Case:
    """Rights, and moments to look at them, in the neighbourhood of a period, with a liking for its edges."""

    calendar: Calendar
    period: int
    rights: list[Right]
    times: list[int]


def _case(raw: Any) -> Case:
    calendar, number, rights, times = raw
    period = number % (TIME_MAX // calendar.period_s)

    def moment(raw_moment: tuple[int, int]) -> int:
        edge, shift = raw_moment
        start, end = calendar.period_start(period), calendar.rights_end(period)
        if edge == 5:
            first = start - calendar.epoch_s
            return max(0, first + (end - first + calendar.epoch_s) * shift >> 20)
        edges = (
            start,
            calendar.period_end(period),
            calendar.period_end(period) + calendar.lead_s,
            end,
            calendar.epoch_end(calendar.epoch_of_period(period)),
        )
        return max(0, edges[edge] + shift)

    made = [Right(product, moment(start), None if end is None else moment(end)) for product, start, end in rights]
    around = [edge + shift for right in made for edge in (right.start, right.end or 0) for shift in (-1, 0)]
    return Case(calendar, period, made, [time for time in [*map(moment, times), *around] if 0 <= time <= TIME_MAX])


CASES = _CASES.map(_case).filter(lambda case: bool(case.times))
ECM_HEADERS = st.builds(EcmHeader, st.sampled_from(Parity), U32, U16, U16)
