"""Our own key sets: derived for every chip from the master key, so that no list of them exists (D4)."""

from typing import Final

from cards.globalplatform.personalisation import KeyRing
from cards.globalplatform.scp03.keys import AesKey, StaticKeys
from emm.keys import derive
from emm.ports import MasterKey

CHANNEL_KEY_LABEL: Final = b"cad channel key"
KEY_SIZE: Final = 32

# Identifiers of the keys in a set (GlobalPlatform Card Specification 2.3, Amendment D table 6-1).
_ENC, _MAC, _DEK = 1, 2, 3


class DerivedKeyRing:
    """A `KeyRing` whose key set of `own_version` is derived; all other versions come from `others`.

    The derivation is that of the key ladder: SP 800-108 with AES-CMAC under the master key, label "cad channel key",
    context diversification data (10) ‖ key version (1) ‖ key identifier (1), 32 bytes.
    """

    def __init__(self, master: MasterKey, own_version: int, others: KeyRing) -> None:
        self._master = master
        self._own_version = own_version
        self._others = others

    def __repr__(self) -> str:
        return f"<DerivedKeyRing of version {self._own_version:02X}>"

    def static_keys(self, version: int, diversification: bytes) -> StaticKeys:
        """The key set of this version on the chip that tells these 10 bytes. Raises KeySetUnknownError."""
        if version != self._own_version:
            return self._others.static_keys(version, diversification)
        return StaticKeys(
            version,
            self._key(diversification, version, _ENC),
            self._key(diversification, version, _MAC),
            self._key(diversification, version, _DEK),
        )

    def _key(self, diversification: bytes, version: int, identifier: int) -> AesKey:
        context = diversification + bytes((version, identifier))
        return AesKey(derive(self._master.cmac, CHANNEL_KEY_LABEL, context, KEY_SIZE))
