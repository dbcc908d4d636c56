"""The master key in a PKCS#11 token: it is made there and never leaves; the token answers AES-CMAC (D14).

The one door to PKCS#11. Needs the extra `cad[pkcs11]` (python-pkcs11).
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from cad.errors import KeyStoreError
from emm.keys import MASTER_KEY_SIZE
from emm.secret import Secret

REOPEN_EVERY_S: Final = 1.0
_LOST: Final = (
    pkcs11.DeviceError,
    pkcs11.DeviceRemoved,
    pkcs11.FunctionFailed,
    pkcs11.GeneralError,
    pkcs11.KeyHandleInvalid,
    pkcs11.ObjectHandleInvalid,
    pkcs11.OperationActive,
    pkcs11.SessionClosed,
    pkcs11.SessionHandleInvalid,
    pkcs11.TokenNotPresent,
    pkcs11.UserNotLoggedIn,
)
"""Errors after which a new session may help."""
_WORDS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (pkcs11.PinIncorrect, "the PIN is wrong. It was tried once; too many tries lock the token, so put it right first"),
    (pkcs11.PinLenRange, "the PIN has a length that this token does not take"),
    (pkcs11.PinLocked, "the PIN is locked after too many tries: unlock it with the security officer's PIN"),
    (pkcs11.PinExpired, "the PIN has expired: set a new one with the vendor's tool"),
    (pkcs11.UserPinNotInitialized, "the token has no user PIN yet: set one with the vendor's tool"),
    (pkcs11.MechanismInvalid, "the token cannot do AES-CMAC (CKM_AES_CMAC): it cannot be the key store"),
    (pkcs11.TokenWriteProtected, "the token is write-protected"),
    (pkcs11.DeviceMemory, "the token has no room for another key"),
)


class TokenMasterKey:
    """A `MasterKey` in a token. Threads may share it. Raises KeyStoreError while the token does not answer.

    A lost session is opened again, once a second at most, and never with a PIN that was refused.
    """

    def __init__(self, open_key: Callable[[], Any], monotonic: Callable[[], float]) -> None:
        self._open_key = open_key
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._key = open_key()
        self._tried_at = monotonic()
        self._refused: KeyStoreError | None = None

    def __repr__(self) -> str:
        return "<TokenMasterKey>"

    def cmac(self, message: bytes) -> bytes:
        """Return AES-256-CMAC of `message`, made by the token."""
        with self._lock:
            try:
                return bytes(self._key.sign(message, mechanism=Mechanism.AES_CMAC))
            except _LOST as error:
                self._reopen(error)
            except pkcs11.PKCS11Error as error:
                raise KeyStoreError(_say("the token refuses to use the master key", error)) from None
            try:
                return bytes(self._key.sign(message, mechanism=Mechanism.AES_CMAC))
            except pkcs11.PKCS11Error as error:
                raise KeyStoreError(_say("the token does not answer", error)) from None

    def _reopen(self, lost: Exception) -> None:
        if self._refused is not None:
            raise self._refused
        now = self._monotonic()
        if now - self._tried_at < REOPEN_EVERY_S:
            raise KeyStoreError(_say("the token does not answer", lost))
        self._tried_at = now
        try:
            self._key = self._open_key()
        except KeyStoreError as error:
            if isinstance(error.__cause__, pkcs11.PinIncorrect | pkcs11.PinLocked):
                self._refused = error
            raise


class Token:
    """A token by its label, in the library (`module`) of its vendor; opened with the user's PIN."""

    def __init__(self, module: Path, label: str, key_label: str, pin: Secret) -> None:
        self._module = module
        self._label = label
        self._key_label = key_label
        self._pin = pin

    def __repr__(self) -> str:
        return f"<Token {self._label!r}>"

    def key(self) -> Any:
        """Open a session and return the master key in it. Raises KeyStoreError when it is not as it must be."""
        session = self._open(rw=False)
        try:
            key = self._find(session)
            if key is None:
                raise KeyStoreError(
                    f"token {self._label!r} has no AES key named {self._key_label!r}; make it with: cad keys init"
                )
            self._demand_safe(key)
        except pkcs11.PKCS11Error as error:
            session.close()
            raise KeyStoreError(_say(f"token {self._label!r} cannot be used", error)) from error
        except BaseException:
            session.close()
            raise
        return key

    def make(self) -> None:
        """Have the token make the key. Raises KeyStoreError; an existing key is never touched."""
        session = self._open(rw=True)
        try:
            if self._find(session) is not None:
                raise KeyStoreError(
                    f"token {self._label!r} has a key named {self._key_label!r} already. Every card in the field hangs"
                    " on it: choose another key_label if you mean it"
                )
            session.generate_key(
                KeyType.AES,
                MASTER_KEY_SIZE * 8,
                label=self._key_label,
                store=True,
                capabilities=MechanismFlag.SIGN,
                template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True},
            )
        except pkcs11.PKCS11Error as error:
            raise KeyStoreError(_say(f"token {self._label!r} did not make the key", error)) from error
        finally:
            session.close()

    def _open(self, *, rw: bool) -> Any:
        try:
            pin = bytes(self._pin).decode("utf-8")
        except UnicodeDecodeError:
            raise KeyStoreError("the PIN is not UTF-8 text") from None
        try:
            library = pkcs11.lib(str(self._module))
        except (RuntimeError, OSError):
            raise KeyStoreError(
                f"the PKCS#11 library {self._module} cannot be loaded: is it there, and whole, and for this machine?"
            ) from None
        try:
            token = library.get_token(token_label=self._label)
            try:
                return token.open(rw=rw, user_pin=pin)
            except pkcs11.UserAlreadyLoggedIn:  # by another session of this process; the login is the process's
                return token.open(rw=rw)
        except (pkcs11.NoSuchToken, pkcs11.TokenNotPresent) as error:
            raise KeyStoreError(
                f"there is no token named {self._label!r} behind {self._module}: is it plugged in, initialised, and"
                " readable for this user?"
            ) from error
        except pkcs11.MultipleTokensReturned as error:
            raise KeyStoreError(f"several tokens are named {self._label!r}: give each a name of its own") from error
        except pkcs11.PKCS11Error as error:
            raise KeyStoreError(_say(f"token {self._label!r} cannot be opened", error)) from error

    def _find(self, session: Any) -> Any:
        wanted = {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.LABEL: self._key_label,
        }
        found = list(session.get_objects(wanted))
        if len(found) > 1:
            raise KeyStoreError(f"token {self._label!r} has several keys named {self._key_label!r}")
        return found[0] if found else None

    def _demand_safe(self, key: Any) -> None:
        """The key is 256 bits long and cannot be read out; anything else is not a master key."""
        if key[Attribute.VALUE_LEN] != MASTER_KEY_SIZE:
            raise KeyStoreError(f"key {self._key_label!r} has {key[Attribute.VALUE_LEN] * 8} bits; 256 are needed")
        if key[Attribute.EXTRACTABLE] or not key[Attribute.SENSITIVE]:
            raise KeyStoreError(
                f"key {self._key_label!r} could be read out of the token: it must be sensitive and not extractable"
            )


def _say(what: str, error: Exception) -> str:
    """Words for a person; the text of the library's error is left out, it may be anything."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return f"{what}: {words}"
    return f"{what}: {type(error).__name__}; look at the token, its library and its log"
