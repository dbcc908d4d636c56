"""How an ECMG wants to be served, and how long it waits: what its settings come to for a session."""

from dataclasses import dataclass

from protocol.errors import EncodeError
from protocol.simulcrypt.ecmg_scs import VERSIONS, ChannelStatus

CW_PER_MSG_MAX = 3


@dataclass(frozen=True, kw_only=True)
class EcmgProfile:
    """Delays in ms, `min_cp_duration` in units of 100 ms, limits in counts and bytes, times in s.

    An ECM of crypto-period n is made of the control words of n and, with `lead_cw` 1, of n + 1. A CW_provision
    carries `cw_per_msg` of them, up to that of n + lead_cw. Raises EncodeError for what cannot be declared.
    """

    versions: frozenset[int] = frozenset({2, 3})
    super_cas_ids: frozenset[int]
    section_tspkt_flag: int = 0
    delay_start: int = 200
    delay_stop: int = 200
    transition_delay_start: int | None = -500
    transition_delay_stop: int | None = 0
    ecm_rep_period: int = 100
    min_cp_duration: int = 10
    lead_cw: int = 1
    cw_per_msg: int = 2
    max_comp_time: int = 100
    streams_max: int = 5000
    message_bytes_max: int = 4096
    setup_timeout_s: float = 10.0
    test_interval_s: float = 30.0
    answer_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.versions or not self.versions <= VERSIONS:
            raise EncodeError(f"protocol versions of an ECMG are some of {sorted(VERSIONS)}")
        if self.lead_cw not in (0, 1) or not 1 <= self.cw_per_msg <= CW_PER_MSG_MAX:
            raise EncodeError(f"an ECMG wants lead_CW 0 or 1, and CW_per_msg 1 to {CW_PER_MSG_MAX}")

    def answer_version(self, asked: int) -> int:
        """Return the version to refuse an unknown one in: the highest that is not above it, else the lowest."""
        return max((version for version in self.versions if version <= asked), default=min(self.versions))

    def channel_status(self, ecm_channel_id: int) -> ChannelStatus:
        """Return the answer to channel_setup and channel_test (clause 5.4.3)."""
        return ChannelStatus(
            ecm_channel_id=ecm_channel_id,
            section_tspkt_flag=self.section_tspkt_flag,
            ac_delay_start=self.delay_start,
            ac_delay_stop=self.delay_stop,
            delay_start=self.delay_start,
            delay_stop=self.delay_stop,
            transition_delay_start=self.transition_delay_start,
            transition_delay_stop=self.transition_delay_stop,
            ecm_rep_period=self.ecm_rep_period,
            max_streams=self.streams_max,
            min_cp_duration=self.min_cp_duration,
            lead_cw=self.lead_cw,
            cw_per_msg=self.cw_per_msg,
            max_comp_time=self.max_comp_time,
        )
