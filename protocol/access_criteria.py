"""Access criteria: what a scrambler is told to send with its control words, so that the ECMG knows whom they are for.

A format of ours; the standard leaves it to the CA system (ETSI TS 103 197, clause 5.3). docs/ecmg.md is the same in
prose. Small enough to be typed into a scrambler as hexadecimal digits.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from construct import Array, Const, Construct, ConstructError, Int8ub, Int16ub, Struct, Terminated

from protocol.errors import DecodeError, EncodeError

SERVICE_TAG: Final = 0x01
PRODUCTS_TAG: Final = 0x02
PRODUCTS_MAX: Final = 11
"""As many as an ECM of 256 bytes can name."""

_SERVICE: Final = Struct(
    "tag" / Const(SERVICE_TAG, Int8ub),
    "original_network_id" / Int16ub,
    "transport_stream_id" / Int16ub,
    "service_id" / Int16ub,
    Terminated,
)
_SERVICE_SIZE: Final = 7
_PRODUCTS_HEAD_SIZE: Final = 3


def _products(count: int) -> Construct:
    product_ids = Array(count, Int16ub)
    return Struct("tag" / Const(PRODUCTS_TAG, Int8ub), "service_id" / Int16ub, "product_ids" / product_ids, Terminated)


@dataclass(frozen=True, slots=True)
class ServiceCriteria:
    """Whoever holds a product that includes this service."""

    original_network_id: int
    transport_stream_id: int
    service_id: int


@dataclass(frozen=True, slots=True)
class ProductsCriteria:
    """Whoever holds one of these products. `service_id` only goes into the ECM, 0 where there is none."""

    service_id: int
    product_ids: tuple[int, ...]


AccessCriteria: TypeAlias = ServiceCriteria | ProductsCriteria


def parse(data: bytes) -> AccessCriteria:
    """Return what the bytes ask for. Raises DecodeError, which says what is wrong and how it should be."""
    if not data:
        raise DecodeError("the access criteria are empty; enter those of the service")
    try:
        match data[0]:
            case 0x01:
                return _parse_service(data)
            case 0x02:
                return _parse_products(data)
            case other:
                raise DecodeError(f"access criteria begin with 01 (a service) or 02 (products), not {other:02X}", 0)
    except ConstructError:
        raise DecodeError(f"{len(data)} bytes are not access criteria") from None


def build(criteria: AccessCriteria) -> bytes:
    """Return the bytes. Raises EncodeError for numbers that do not fit."""
    fields: dict[str, Any]
    if isinstance(criteria, ServiceCriteria):
        form: Any = _SERVICE
        fields = {
            "original_network_id": criteria.original_network_id,
            "transport_stream_id": criteria.transport_stream_id,
            "service_id": criteria.service_id,
        }
    else:
        form = _products(len(criteria.product_ids))
        fields = {"service_id": criteria.service_id, "product_ids": criteria.product_ids}
    try:
        data = bytes(form.build(fields))
        parse(data)
    except (ConstructError, DecodeError) as error:
        raise EncodeError(f"these access criteria cannot be written: {error}") from None
    return data


def _parse_service(data: bytes) -> ServiceCriteria:
    if len(data) != _SERVICE_SIZE:
        raise DecodeError(f"access criteria of a service have {_SERVICE_SIZE} bytes, not {len(data)}")
    fields = _SERVICE.parse(data)
    return ServiceCriteria(fields.original_network_id, fields.transport_stream_id, fields.service_id)


def _parse_products(data: bytes) -> ProductsCriteria:
    count, odd = divmod(len(data) - _PRODUCTS_HEAD_SIZE, 2)
    if odd or not 1 <= count <= PRODUCTS_MAX:
        raise DecodeError(
            f"access criteria of products have 02, service_id and 1 to {PRODUCTS_MAX} product_id of 2 bytes"
        )
    fields = _products(count).parse(data)
    product_ids = tuple(fields.product_ids)
    if len(set(product_ids)) != count:
        raise DecodeError("the access criteria name a product twice")
    return ProductsCriteria(fields.service_id, product_ids)
