"""[[networks.multiplexes]] and [[networks.streams]]: where the EMMs of a network go."""

from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from config.fields import U16, U32, Host, Port, Slug, StreamHost, Table

TABLES_KBPS: Final = 16  # PAT and CAT of a stream of ours: two packets every 0.2 s


class StandbySettings(Table):
    """[networks.multiplexes.standby] The multiplexer that carries the stream while the main one cannot.

    `port` and `udp_port` are those of the main one when the file does not name them. `return_after_s` 0 = the stream
    goes back to the main one by the operator's word only.
    """

    host: Host
    port: Port | None = None
    udp_port: Port | None = None
    takeover_s: Annotated[float, Field(ge=1, le=3600)] = 10
    return_after_s: Annotated[float, Field(ge=0, le=604_800)] = 0


class MultiplexSettings(Table):
    """[[networks.multiplexes]] One EMM stream of one multiplexer (ETSI TS 103 197 clause 6)."""

    id: Slug
    host: Host
    port: Port
    client_id: U32
    data_channel_id: U16 = 1
    data_stream_id: U16 = 1
    data_id: U16 = 1
    protocol_version: Annotated[int, Field(ge=1, le=5)] = 2
    mode: Literal["section", "packet"] = "section"
    transport: Literal["tcp", "udp"] = "tcp"
    udp_port: Port | None = None
    bandwidth_kbps: Annotated[int, Field(ge=1, le=0xFFFF)] = 100
    datagrams_per_message: Annotated[int, Field(ge=1, le=200)] = 7
    message_bytes_max: Annotated[int, Field(ge=512, le=65_540)] = 4096
    burst_ms: Annotated[int, Field(ge=1, le=500)] = 50
    packing: Literal["packed", "per-section"] = "packed"
    test_interval_s: Annotated[float, Field(ge=1, le=3600)] = 30
    answer_timeout_s: Annotated[float, Field(ge=0.1, le=300)] = 5
    emm_pid: Annotated[int, Field(ge=0x0010, le=0x1FFE)] | None = None
    standby: StandbySettings | None = None

    @property
    def at_standby(self) -> "MultiplexSettings | None":
        """The same stream on the standby multiplexer, None where there is none."""
        if (other := self.standby) is None:
            return None
        where = {"host": other.host, "port": other.port or self.port, "udp_port": other.udp_port or self.udp_port}
        return self.model_copy(update={**where, "standby": None})

    @model_validator(mode="after")
    def _standby_fits(self) -> Self:
        if self.standby is None or (other := self.at_standby) is None:
            return self
        if (other.host, other.port) == (self.host, self.port):
            raise ValueError("standby is the main multiplexer itself: name another host or port")
        if self.standby.udp_port is not None and self.transport != "udp":
            raise ValueError('standby.udp_port goes with transport = "udp"')
        if self.standby.takeover_s < self.answer_timeout_s:
            raise ValueError(
                "standby.takeover_s must not be less than answer_timeout_s: a multiplexer may take so long to answer"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.transport == "udp") != (self.udp_port is not None):
            raise ValueError('udp_port goes with transport = "udp": write both or neither')
        if self.transport == "udp" and self.protocol_version == 1:
            raise ValueError('protocol_version 1 has no data over UDP: take version 2 or later, or transport = "tcp"')
        if self.emm_pid is not None and self.mode != "packet":
            raise ValueError('emm_pid goes with mode = "packet"; in section mode the multiplexer chooses the PID')
        return self


class StreamSettings(Table):
    """[[networks.streams]] A transport stream with CAT and EMMs that we send ourselves, where there is no SimulCrypt.

    `bandwidth_kbps` is what its EMM PID may take (I11), `stream_kbps` the whole stream with tables and null packets.
    """

    id: Slug
    host: StreamHost
    port: Port
    protocol: Literal["udp", "rtp"] = "udp"
    interface: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\s/]+$")] | None = None
    multicast_ttl: Annotated[int, Field(ge=0, le=255)] = 16
    dscp: Annotated[int, Field(ge=0, le=63)] = 0
    emm_pid: Annotated[int, Field(ge=0x0010, le=0x1FFE)] = 0x01F0
    pat: bool = True
    transport_stream_id: U16 = 1
    bandwidth_kbps: Annotated[int, Field(ge=10, le=50_000)] = 100
    stream_kbps: Annotated[int, Field(ge=10, le=100_000)] = Field(
        default_factory=lambda data: -(-(data.get("bandwidth_kbps", 100) + TABLES_KBPS) * 21 // 20)
    )
    null_packets: bool = True
    packing: Literal["packed", "per-section"] = "packed"
    packets_per_datagram: Annotated[int, Field(ge=1, le=7)] = 7
    burst_ms: Annotated[int, Field(ge=1, le=500)] = 50

    @property
    def mode(self) -> Literal["section"]:
        """What is handed to the link: sections; it makes the packets itself."""
        return "section"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        least = self.bandwidth_kbps + TABLES_KBPS
        if self.stream_kbps < least:
            raise ValueError(
                f"stream_kbps must hold bandwidth_kbps and {TABLES_KBPS} kbit/s of tables: at least {least}"
            )
        return self


Outlet: TypeAlias = MultiplexSettings | StreamSettings
"""Whatever carries the EMMs of a network to its cards."""
