"""Which ids are in use on an ECMG, over all its connections, and how many streams there are."""

from typing import Final, Generic, TypeVar

OwnerT = TypeVar("OwnerT")

STREAMS_TOTAL_MAX: Final = 20_000


class IdsInUse(Generic[OwnerT]):
    """The channels and ECMs that are taken, by whom. `tolerate` lets several connections use the same ids.

    ETSI TS 103 197, clause 5.3: ECM_channel_id names a channel, and Super_CAS_id with ECM_id an ECM stream, on all
    connections of an ECMG.
    """

    def __init__(self, *, tolerate: bool = False, streams_max: int = STREAMS_TOTAL_MAX) -> None:
        self.streams_max = streams_max
        self.streams = 0
        self.tolerate = tolerate
        self._channels: dict[int, list[OwnerT]] = {}
        self._ecms: dict[tuple[int, int], list[OwnerT]] = {}

    @property
    def full(self) -> bool:
        """Whether no stream can be added on any connection."""
        return self.streams >= self.streams_max

    def channel_holder(self, ecm_channel_id: int) -> OwnerT | None:
        """Return who keeps others from this channel id; None when it is to be had."""
        owners = self._channels.get(ecm_channel_id)
        return None if self.tolerate or not owners else owners[0]

    def ecm_holder(self, super_cas_id: int, ecm_id: int) -> OwnerT | None:
        """Return who keeps others from this ECM_id; None when it is to be had."""
        owners = self._ecms.get((super_cas_id, ecm_id))
        return None if self.tolerate or not owners else owners[0]

    def take_channel(self, ecm_channel_id: int, owner: OwnerT) -> None:
        """Note a channel; `channel_holder` was asked before."""
        self._channels.setdefault(ecm_channel_id, []).append(owner)

    def give_channel(self, ecm_channel_id: int, owner: OwnerT) -> None:
        """Note the end of a channel."""
        _remove(self._channels, ecm_channel_id, owner)

    def take_stream(self, super_cas_id: int, ecm_id: int, owner: OwnerT) -> None:
        """Note a stream; `full` and `ecm_holder` were asked before."""
        self._ecms.setdefault((super_cas_id, ecm_id), []).append(owner)
        self.streams += 1

    def give_stream(self, super_cas_id: int, ecm_id: int, owner: OwnerT) -> None:
        """Note the end of a stream."""
        _remove(self._ecms, (super_cas_id, ecm_id), owner)
        self.streams -= 1


KeyT = TypeVar("KeyT")


def _remove(taken: dict[KeyT, list[OwnerT]], key: KeyT, owner: OwnerT) -> None:
    owners = taken[key]
    owners.remove(owner)
    if not owners:
        del taken[key]
