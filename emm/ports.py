"""What this package wants from the world and never builds itself."""

from typing import Protocol


class MasterKey(Protocol):
    """A 256-bit AES key that only answers; it may live in a token that never gives it out."""

    def cmac(self, message: bytes) -> bytes:
        """Return the 16 bytes of AES-CMAC (RFC 4493, NIST SP 800-38B) of `message` under the key."""
        ...
