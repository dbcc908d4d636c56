"""The table [ecmg]: scramblers that are given ECMs (ETSI TS 103 197, clause 5)."""

import ipaddress
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from config.fields import U16, U32, MandatoryListenAddress, Slug, Table

CW_PER_MSG_MAX: Final = 3


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f"write an IP address, or a network such as 192.0.2.0/28: {error}") from None


ClientAddress = Annotated[str, AfterValidator(_address)]
SimulcryptVersion = Annotated[int, Field(ge=2, le=5)]
DelayMs = Annotated[int, Field(ge=-0x8000, le=0x7FFF)]


class ScramblerSettings(Table):
    """[[ecmg.clients]] Who may ask for ECMs: an address or a network. Without `super_cas_ids`: that of the ECMG."""

    id: Slug
    address: ClientAddress
    super_cas_ids: Annotated[tuple[U32, ...], Field(strict=False)] = ()
    connections_max: Annotated[int, Field(ge=1, le=1000)] = 8

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """The addresses that it may come from."""
        return ipaddress.ip_network(self.address)


class EcmgSettings(Table):
    """[ecmg] Present = scramblers are served. The names without a unit are those of the standard's parameters."""

    listen: MandatoryListenAddress
    super_cas_id: U32
    versions: Annotated[tuple[SimulcryptVersion, ...], Field(strict=False, min_length=1)] = (2, 3)
    mode: Literal["section", "packet"] = "section"
    ids_in_use: Literal["refuse", "tolerate"] = "refuse"
    lead_cw: Annotated[int, Field(ge=0, le=1)] = 1
    cw_per_msg: Annotated[int, Field(ge=1, le=CW_PER_MSG_MAX)] = 2
    delay_start_ms: DelayMs = 200
    delay_stop_ms: DelayMs = 200
    transition_delay_start_ms: DelayMs = -500
    transition_delay_stop_ms: DelayMs = 0
    ecm_rep_period_ms: Annotated[int, Field(ge=10, le=0xFFFF)] = 100
    min_cp_duration_s: Annotated[float, Field(ge=0.5, le=6553.5)] = 5.0
    max_comp_time_ms: Annotated[int, Field(ge=1, le=0xFFFF)] = 100
    streams_max: Annotated[U16, Field(ge=1)] = 1000
    total_streams_max: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    message_bytes_max: Annotated[int, Field(ge=512, le=65_540)] = 4096
    setup_timeout_s: Annotated[float, Field(ge=1, le=3600)] = 10
    test_interval_s: Annotated[float, Field(ge=1, le=3600)] = 30
    answer_timeout_s: Annotated[float, Field(ge=0.1, le=300)] = 10
    clients: Annotated[tuple[ScramblerSettings, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.lead_cw == 0 and self.delay_start_ms >= 0:
            raise ValueError(
                "with lead_cw = 0 an ECM holds the control word of its own crypto-period only: delay_start_ms must be"
                " negative, or every card is late"
            )
        if abs(self.delay_start_ms) > self.min_cp_duration_s * 500:
            raise ValueError("delay_start_ms must not be more than half of min_cp_duration_s")
        if self.max_comp_time_ms >= self.min_cp_duration_s * 1000:
            raise ValueError("max_comp_time_ms must be less than min_cp_duration_s")
        return self
