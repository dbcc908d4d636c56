"""The table [technicians]: who may ask the headend about cards in the field, over mutual TLS."""

from typing import Annotated, Literal

from pydantic import Field

from config.fields import AbsolutePath, MandatoryListenAddress, Slug, Table

Role = Literal["read-only", "technician", "operator"]
CommonName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")]
"""The common name of a certificate (RFC 5280, upper bound ub-common-name)."""


class PersonSettings(Table):
    """[[technicians.people]] A person, known by the common name of the certificate, of one operator."""

    name: CommonName
    operator: Slug
    role: Role = "technician"


class TechniciansSettings(Table):
    """[technicians] Present = the port is open. Only certificates of `ca_file` whose name stands in `people` get in."""

    listen: MandatoryListenAddress
    ca_file: AbsolutePath
    cert_file: AbsolutePath
    key_file: AbsolutePath
    extract_days: Annotated[int, Field(ge=1, le=31)] = 7
    extract_cards_max: Annotated[int, Field(ge=1, le=100_000)] = 20_000
    people: Annotated[tuple[PersonSettings, ...], Field(strict=False)] = ()
