"""Who may connect: the allow-list of scramblers by address."""

import ipaddress
from typing import Final

from config.ecmg import EcmgSettings, ScramblerSettings
from protocol.simulcrypt.ecmg.profile import EcmgProfile

LOCAL: Final = "local"
LOCAL_CONNECTIONS_MAX: Final = 64


class AllowList:
    """The scramblers of the settings, the narrowest address first; without any, everybody on this machine."""

    def __init__(self, settings: EcmgSettings) -> None:
        local = ScramblerSettings(id=LOCAL, address="127.0.0.0/8", connections_max=LOCAL_CONNECTIONS_MAX)
        local_6 = ScramblerSettings(id=LOCAL, address="::1", connections_max=LOCAL_CONNECTIONS_MAX)
        clients = settings.clients or (local, local_6)
        self._clients = sorted(clients, key=lambda client: -client.network.prefixlen)
        self._profiles = {client.id: profile_of(settings, client) for client in clients}

    @property
    def ids(self) -> list[str]:
        """The names of the scramblers, in the order of the settings."""
        return list(self._profiles)

    def find(self, address: str) -> ScramblerSettings | None:
        """Return the scrambler at this address, None when there is none."""
        try:
            peer = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return None
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return next((client for client in self._clients if peer in client.network), None)

    def profile(self, client: ScramblerSettings) -> EcmgProfile:
        """Return how this scrambler is served."""
        return self._profiles[client.id]


def profile_of(settings: EcmgSettings, client: ScramblerSettings) -> EcmgProfile:
    """Return what the settings come to for one scrambler."""
    return EcmgProfile(
        versions=frozenset(settings.versions),
        super_cas_ids=frozenset(client.super_cas_ids or (settings.super_cas_id,)),
        section_tspkt_flag=int(settings.mode == "packet"),
        delay_start=settings.delay_start_ms,
        delay_stop=settings.delay_stop_ms,
        transition_delay_start=settings.transition_delay_start_ms,
        transition_delay_stop=settings.transition_delay_stop_ms,
        ecm_rep_period=settings.ecm_rep_period_ms,
        min_cp_duration=round(settings.min_cp_duration_s * 10),
        lead_cw=settings.lead_cw,
        cw_per_msg=settings.cw_per_msg,
        max_comp_time=settings.max_comp_time_ms,
        streams_max=settings.streams_max,
        message_bytes_max=settings.message_bytes_max,
        setup_timeout_s=settings.setup_timeout_s,
        test_interval_s=settings.test_interval_s,
        answer_timeout_s=settings.answer_timeout_s,
    )
