"""Extracts of the ledger: signed by the headend (Ed25519, RFC 8032), opened by the laptop that knows its public key."""

import base64
import binascii
import zlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import ValidationError

from cad.technicians.documents import Extract, SignedExtract
from cad.technicians.errors import ExtractError
from emm.secret import Secret

PREFIX: Final = b"cad extract 1\x00"
PLAIN_BYTES_MAX: Final = 256 * 1024 * 1024


class ExtractSigner:
    """The headend's side. `seed`: the extract key of the key ladder."""

    def __init__(self, seed: Secret) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    def __repr__(self) -> str:
        return "<ExtractSigner>"

    @property
    def public_key(self) -> str:
        """The public key in hexadecimal."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, extract: Extract) -> SignedExtract:
        """Deflate and sign."""
        payload = zlib.compress(extract.model_dump_json().encode(), 6)
        signature = self._key.sign(PREFIX + payload)
        return SignedExtract(payload=base64.b64encode(payload).decode(), signature=base64.b64encode(signature).decode())


def open_extract(data: bytes, public_key: str) -> Extract:
    """The extract in a file's bytes. Raises ExtractError when the headend with this key did not sign just this."""
    try:
        signed = SignedExtract.model_validate_json(data)
        payload = base64.b64decode(signed.payload, validate=True)
        signature = base64.b64decode(signed.signature, validate=True)
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(signature, PREFIX + payload)
        inflate = zlib.decompressobj()
        plain = inflate.decompress(payload, PLAIN_BYTES_MAX)
        return Extract.model_validate_json(plain)
    except InvalidSignature:
        raise ExtractError(
            "the extract was not signed by this headend, or was changed; fetch it again: cad field fetch"
        ) from None
    except (ValidationError, binascii.Error, ValueError, zlib.error):
        raise ExtractError(
            "the extract is damaged or of another version of cad; fetch it again: cad field fetch"
        ) from None
