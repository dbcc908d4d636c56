"""Transport keys of a card vendor: his file is opened once under the transport key, and kept under the master key.

A vendor's file (docs/card-vendor.md) holds three keys for each chip, wrapped by AES Key Wrap (RFC 3394) under a
transport key that came by another way, in components of several people. What is kept is a delivery file of mode 0600,
in which each chip's keys are sealed by AES-SIV (RFC 5297) under a key derived from the master key: it is of no use
without the key store.
"""

import base64
import binascii
import hmac
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cad.errors import BatchFileError, KeyStoreError
from cards.globalplatform.errors import KeyFormatError, KeySetUnknownError
from cards.globalplatform.scp03.keys import KEY_SIZES, VERSION_MAX, AesKey, StaticKeys
from emm.keys import derive
from emm.ports import MasterKey

VENDOR_FORMAT: Final = "cad-vendor-keys-1"
DELIVERY_FORMAT: Final = "cad-delivery-1"
DELIVERY_LABEL: Final = b"cad delivery keys"
FILE_BYTES_MAX: Final = 256 * 1024 * 1024
CHIPS_MAX: Final = 1_000_000
_CHECK: Final = b"check"
_SIV_KEY_SIZE: Final = 64

Wrapped = Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{48}|[0-9A-Fa-f]{64}|[0-9A-Fa-f]{80})$")]
CheckValue = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{6}$")]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class CheckValues(_Table):
    """The key check values of the three keys."""

    enc: CheckValue
    mac: CheckValue
    dek: CheckValue


class VendorChip(_Table):
    """One chip: serial number, its three keys wrapped, and their check values."""

    serial: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{20}$")]
    enc: Wrapped
    mac: Wrapped
    dek: Wrapped
    kcv: CheckValues


class VendorFile(_Table):
    """A delivery as its vendor describes it."""

    format: Literal["cad-vendor-keys-1"]
    vendor: Name
    delivery: Name
    key_version: Annotated[int, Field(ge=1, le=VERSION_MAX)]
    transport_key_kcv: CheckValue
    chips: Annotated[tuple[VendorChip, ...], Field(strict=False, min_length=1, max_length=CHIPS_MAX)]


class Delivery:
    """The transport keys of one delivery; a `KeyRing` for the chips in it."""

    def __init__(self, vendor: str, name: str, key_version: int, sealed: dict[str, bytes], master: MasterKey) -> None:
        self.vendor = vendor
        self.name = name
        self.key_version = key_version
        self._sealed = sealed
        self._siv = AESSIV(derive(master.cmac, DELIVERY_LABEL, b"", _SIV_KEY_SIZE))

    def __repr__(self) -> str:
        return f"<Delivery {self.name} of {len(self)} chips>"

    def __len__(self) -> int:
        return len(self._sealed)

    def __contains__(self, serial: str) -> bool:
        return serial in self._sealed

    def static_keys(self, version: int, diversification: bytes) -> StaticKeys:
        """The transport keys of a chip. Raises KeySetUnknownError for another version or another delivery's chip."""
        serial = diversification.hex().upper()
        if version != self.key_version or serial not in self._sealed:
            raise KeySetUnknownError(f"delivery {self.name} has no key set {version:02X} of chip {serial}", version)
        try:
            keys = self._siv.decrypt(self._sealed[serial], self._bound(serial))
        except InvalidTag:
            raise BatchFileError(f"delivery {self.name}: the keys of chip {serial} are damaged") from None
        size = len(keys) // 3
        enc, mac, dek = (AesKey(keys[start : start + size]) for start in range(0, 3 * size, size))
        return StaticKeys(version, enc, mac, dek)

    def put(self, serial: str, keys: StaticKeys) -> None:
        """Seal the keys of a chip."""
        plain = b"".join(key.reveal() for key in keys.keys)
        self._sealed[serial] = self._siv.encrypt(plain, self._bound(serial))

    def encode(self) -> bytes:
        """The contents of a delivery file."""
        head = {
            "format": DELIVERY_FORMAT,
            "vendor": self.vendor,
            "delivery": self.name,
            "key_version": self.key_version,
        }
        check = self._siv.encrypt(_CHECK, self._bound(""))
        chips = {serial: base64.b64encode(sealed).decode() for serial, sealed in self._sealed.items()}
        return json.dumps(head | {"check": check.hex(), "chips": chips}, indent=0).encode() + b"\n"

    def verify(self, check: bytes) -> None:
        """Raise KeyStoreError when the file was sealed under another master key."""
        try:
            good = hmac.compare_digest(self._siv.decrypt(check, self._bound("")), _CHECK)
        except (InvalidTag, ValueError):
            good = False
        if not good:
            raise KeyStoreError(
                f"delivery {self.name} was imported under another master key, or its file is damaged:"
                " import the vendor's file again"
            )

    def _bound(self, serial: str) -> list[bytes]:
        """What the sealed keys are bound to."""
        return [
            DELIVERY_FORMAT.encode(),
            self.vendor.encode(),
            self.name.encode(),
            bytes((self.key_version,)),
            b"chip " + serial.encode(),
        ]


def import_vendor_file(path: Path, components: Sequence[Path], master: MasterKey) -> Delivery:
    """Open a vendor's file under the transport key, check every key. Raises BatchFileError; nothing is half taken."""
    try:
        vendor = VendorFile.model_validate(json.loads(_read(path, secret=False)))
    except ValidationError as error:
        one = error.errors()[0]
        place = ".".join(map(str, one["loc"])) or "the file"
        raise BatchFileError(f"{path}: {place}: {one['msg']}") from None
    except (ValueError, RecursionError):
        raise BatchFileError(f"{path} is not a file of transport keys (JSON, {VENDOR_FORMAT})") from None
    transport = _joined(components)
    if not _same(transport.check_value(), vendor.transport_key_kcv):
        raise BatchFileError(
            f"the transport key has check value {transport.check_value().hex().upper()}, {path} was wrapped under"
            f" {vendor.transport_key_kcv.upper()}: are these all components, and those of this delivery?"
        )
    delivery = Delivery(vendor.vendor, vendor.delivery, vendor.key_version, {}, master)
    for chip in vendor.chips:
        serial = chip.serial.upper()
        if serial in delivery:
            raise BatchFileError(f"{path}: chip {serial} is in it twice")
        delivery.put(serial, _unwrap(chip, transport, vendor.key_version, path))
    return delivery


def write_delivery(path: Path, delivery: Delivery) -> None:
    """Write a delivery file of mode 0600, whole or not at all, never over another. Raises BatchFileError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(delivery.encode())
                file.flush()
                os.fsync(file.fileno())
            path.hardlink_to(draft)
        finally:
            draft.unlink()
    except FileExistsError:
        raise BatchFileError(f"{path} exists already; name another file") from None
    except OSError as error:
        raise BatchFileError(f"{path} cannot be written: {error.strerror}") from None


def read_delivery(path: Path, master: MasterKey) -> Delivery:
    """Open a delivery file. Raises BatchFileError, or KeyStoreError for one of another master key."""
    try:
        found: dict[str, Any] = json.loads(_read(path, secret=True))
        if found["format"] != DELIVERY_FORMAT:
            raise BatchFileError(f"{path} is not a delivery file; make it with: cad keys import-transport")
        sealed = {str(serial): base64.b64decode(keys, validate=True) for serial, keys in found["chips"].items()}
        made = Delivery(str(found["vendor"]), str(found["delivery"]), int(found["key_version"]), sealed, master)
        check = bytes.fromhex(found["check"])
        if not 1 <= made.key_version <= VERSION_MAX:
            raise ValueError(made.key_version)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise BatchFileError(f"{path} is not a delivery file; make it with: cad keys import-transport") from None
    made.verify(check)
    return made


def _unwrap(chip: VendorChip, transport: AesKey, version: int, path: Path) -> StaticKeys:
    keys: list[AesKey] = []
    for name in ("enc", "mac", "dek"):
        try:
            key = AesKey(aes_key_unwrap(transport.reveal(), bytes.fromhex(getattr(chip, name))))
        except (InvalidUnwrap, KeyFormatError, ValueError):
            raise BatchFileError(
                f"{path}: key {name} of chip {chip.serial.upper()} does not open under the transport key"
            ) from None
        if not _same(key.check_value(), getattr(chip.kcv, name)):
            raise BatchFileError(f"{path}: key {name} of chip {chip.serial.upper()} does not fit its check value")
        keys.append(key)
    try:
        return StaticKeys(version, keys[0], keys[1], keys[2])
    except KeyFormatError as error:
        raise BatchFileError(f"{path}: chip {chip.serial.upper()}: {error.message}") from None


def _joined(components: Sequence[Path]) -> AesKey:
    """The transport key: all components, exclusive-or."""
    joined = b""
    for path in components:
        try:
            part = bytes.fromhex(_read(path, secret=True).decode("ascii").strip())
        except ValueError:
            raise BatchFileError(f"{path} holds no key component: write hexadecimal digits") from None
        if len(part) not in KEY_SIZES or len(joined) not in (0, len(part)):
            raise BatchFileError(f"{path}: components have 16, 24 or 32 bytes, all the same")
        joined = bytes(a ^ b for a, b in zip(joined, part, strict=True)) if joined else part
    return AesKey(joined)


def _same(value: bytes, spelt: str) -> bool:
    return hmac.compare_digest(value, bytes.fromhex(spelt))


def _read(path: Path, *, secret: bool) -> bytes:
    try:
        found = path.stat()
        if secret and found.st_mode & 0o077:
            raise BatchFileError(
                f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}); run: chmod 600 {path}"
            )
        if found.st_size > FILE_BYTES_MAX:
            raise BatchFileError(f"{path} is too large: {found.st_size} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BatchFileError(f"{path} cannot be read: {error.strerror}") from None
