"""The master key, in a PKCS#11 token or a file sealed by a passphrase: make it, open it, show its fingerprint (D14).

The file is JSON: format, scrypt parameters, salt, nonce and the key sealed with AES-256-GCM-SIV (RFC 8452) under
scrypt(passphrase). Everything but the sealed key itself is associated data. The passphrase comes from a file of mode
0600 or from a systemd credential, and so does the PIN of a token (`cad.token_keystore`).
"""

import base64
import binascii
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from cad.errors import KeyStoreError
from cad.frame.clock import SystemClock
from cad.frame.core_dumps import forbid_core_dumps
from config.settings import KeysSettings
from emm.keys import MASTER_KEY_SIZE, LocalMasterKey
from emm.ports import MasterKey
from emm.secret import Secret

FORMAT: Final = "cad-master-key-1"
SCRYPT_N: Final = 2**15
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
SCRYPT_MEMORY_MAX: Final = 512 * 1024 * 1024
SALT_SIZE: Final = 16
NONCE_SIZE: Final = 12
PASSPHRASE_CHARACTERS_MIN: Final = 12
FILE_BYTES_MAX: Final = 4096
FINGERPRINT_MESSAGE: Final = b"cad master key fingerprint"
FINGERPRINT_SIZE: Final = 3


def create(settings: KeysSettings, environment: Mapping[str, str] = os.environ) -> MasterKey:
    """Make a new master key in the token, or in a sealed file of mode 0600.

    Raises KeyStoreError; an existing key is never touched. The process leaves no core dumps from then on.
    """
    forbid_core_dumps()
    passphrase = read_passphrase(settings, environment)
    if settings.kind == "pkcs11":
        return _token_key(settings, passphrase, make=True)
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise KeyStoreError(f"the passphrase is too short: take at least {PASSPHRASE_CHARACTERS_MIN} characters")
    key = Secret(os.urandom(MASTER_KEY_SIZE))
    _write_once(settings.file, seal(key, passphrase))
    return LocalMasterKey(key)


def load(settings: KeysSettings, environment: Mapping[str, str] = os.environ) -> MasterKey:
    """Open the master key. Raises KeyStoreError, which says what to do.

    The process leaves no core dumps from then on.
    """
    forbid_core_dumps()
    if settings.kind == "pkcs11":
        return _token_key(settings, read_passphrase(settings, environment), make=False)
    _refuse_if_open_to_others(settings.file, "the key file")
    try:
        data = settings.file.read_bytes()
    except OSError as error:
        raise KeyStoreError(f"{settings.file} cannot be read: {error.strerror}") from None
    try:
        return LocalMasterKey(unseal(data, read_passphrase(settings, environment)))
    except KeyStoreError as error:
        raise KeyStoreError(f"{settings.file}: {error}") from None


def place(settings: KeysSettings) -> str:
    """Return where the master key lies, in words."""
    if settings.kind == "pkcs11":
        return f"key {settings.key_label!r} in token {settings.token!r}"
    return str(settings.file)


def fingerprint(master: MasterKey) -> str:
    """Return six hex digits that tell master keys apart and give nothing away (like a key check value)."""
    return master.cmac(FINGERPRINT_MESSAGE)[:FINGERPRINT_SIZE].hex().upper()


def seal(key: Secret, passphrase: Secret) -> bytes:
    """Return the contents of a key file."""
    salt, nonce = os.urandom(SALT_SIZE), os.urandom(NONCE_SIZE)
    head = {
        "format": FORMAT,
        "scrypt": {"n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P, "salt": _encode(salt)},
        "nonce": _encode(nonce),
    }
    wrapping = _stretch(passphrase, salt, SCRYPT_N, SCRYPT_R, SCRYPT_P)
    sealed = AESGCMSIV(wrapping).encrypt(nonce, key, _canonical(head))
    return json.dumps(head | {"sealed": _encode(sealed)}, indent=1).encode() + b"\n"


def unseal(data: bytes, passphrase: Secret) -> Secret:
    """Return the master key out of the contents of a key file. Raises KeyStoreError on anything wrong."""
    try:
        head: dict[str, Any] = json.loads(data[: FILE_BYTES_MAX + 1])
        if head["format"] != FORMAT:
            raise KeyStoreError("this file was written by another version of cad, or is not a key file")
        sealed = _decode(head.pop("sealed"))
        parameters = head["scrypt"]
        salt, nonce = _decode(parameters["salt"]), _decode(head["nonce"])
        n, r, p = (int(parameters[name]) for name in "nrp")
        if not (128 * n * r * p <= SCRYPT_MEMORY_MAX and n > 0 and r > 0 and p > 0):
            raise KeyStoreError("the scrypt parameters are out of bounds: the file is damaged")
        wrapping = _stretch(passphrase, salt, n, r, p)
        return Secret(AESGCMSIV(wrapping).decrypt(nonce, sealed, _canonical(head)))
    except InvalidTag:
        raise KeyStoreError("the passphrase is wrong, or the file is damaged") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error):
        raise KeyStoreError("this is not a key file, or it is damaged: restore it from your backup") from None


def read_passphrase(settings: KeysSettings, environment: Mapping[str, str] = os.environ) -> Secret:
    """Return the passphrase from where the settings say. Raises KeyStoreError."""
    if settings.passphrase_file is not None:
        path = settings.passphrase_file
        _refuse_if_open_to_others(path, "the passphrase file")
    else:
        directory = environment.get("CREDENTIALS_DIRECTORY", "")
        if not directory:
            raise KeyStoreError(
                f"keys.credential = {settings.credential!r} needs systemd, and this process has no"
                " $CREDENTIALS_DIRECTORY. Start it as the service, or use systemd-run with LoadCredential="
            )
        path = Path(directory) / str(settings.credential)
    try:
        passphrase = Secret(path.read_bytes().rstrip(b"\r\n"))
    except OSError as error:
        raise KeyStoreError(f"the passphrase in {path} cannot be read: {error.strerror}") from None
    if not passphrase:
        raise KeyStoreError(f"the passphrase in {path} is empty")
    return passphrase


def _token_key(settings: KeysSettings, pin: Secret, *, make: bool) -> MasterKey:
    # Not imported above: python-pkcs11 is an extra.
    from cad.token_keystore import Token, TokenMasterKey

    assert settings.module is not None
    assert settings.token is not None
    token = Token(settings.module, settings.token, settings.key_label, pin)
    if make:
        token.make()
    return TokenMasterKey(token.key, SystemClock().monotonic)


def _refuse_if_open_to_others(path: Path, what: str) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        hint = "; make it with: cad keys init" if what == "the key file" else ""
        raise KeyStoreError(f"{what} {path} does not exist{hint}") from None
    except OSError as error:
        raise KeyStoreError(f"{what} {path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise KeyStoreError(f"{what} {path} is not a regular file")
    if mode & 0o077:
        raise KeyStoreError(f"{what} {path} is open to others (mode {mode & 0o777:04o}); run: chmod 600 {path}")


def _write_once(path: Path, data: bytes) -> None:
    """Make the file whole or not at all, and only where there is none."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            path.hardlink_to(draft)
        finally:
            draft.unlink()
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        os.close(directory)
    except FileExistsError:
        raise KeyStoreError(
            f"{path} exists already. Every card in the field hangs on it: move it away yourself if you mean it"
        ) from None
    except OSError as error:
        raise KeyStoreError(f"{path} cannot be written: {error.strerror}") from None


def _stretch(passphrase: Secret, salt: bytes, n: int, r: int, p: int) -> Secret:
    return Secret(Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase))


def _canonical(head: Mapping[str, Any]) -> bytes:
    return json.dumps(head, sort_keys=True, separators=(",", ":")).encode()


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
