"""The master key's file: sealed, closed to others, never overwritten; every mishap in clear words, no secret in any."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cad import keystore
from cad.errors import KeyStoreError
from config.settings import KeysSettings
from emm.keys import KeyLadder, LocalMasterKey
from emm.secret import Secret

PASSPHRASE = Secret(b"correct horse battery")
KEY = Secret(bytes(range(0xA0, 0xC0)))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "SCRYPT_N", 16)
    monkeypatch.setattr(keystore, "SCRYPT_MEMORY_MAX", 128 * 1024)


@pytest.fixture
def keys(tmp_path: Path) -> KeysSettings:
    passphrase = tmp_path / "passphrase"
    passphrase.write_bytes(PASSPHRASE + b"\n")
    passphrase.chmod(0o600)
    return KeysSettings(file=tmp_path / "master.key", passphrase_file=passphrase)


def test_what_is_made_can_be_opened_again(keys: KeysSettings) -> None:
    made = keystore.create(keys)
    opened = keystore.load(keys)
    assert KeyLadder(made).card_key(1, 1) == KeyLadder(opened).card_key(1, 1)
    assert keystore.fingerprint(made) == keystore.fingerprint(opened)
    assert keys.file.stat().st_mode & 0o777 == 0o600


def test_the_fingerprint_tells_keys_apart_and_openssl_agrees() -> None:
    # openssl mac -macopt cipher:AES-256-CBC -macopt hexkey:A0A1…BF CMAC, first three bytes
    assert keystore.fingerprint(LocalMasterKey(KEY)) == "43D9BC"
    assert keystore.fingerprint(LocalMasterKey(bytes(32))) != "43D9BC"


def test_an_existing_key_is_never_overwritten(keys: KeysSettings) -> None:
    keystore.create(keys)
    before = keys.file.read_bytes()
    with pytest.raises(KeyStoreError, match="exists already"):
        keystore.create(keys)
    assert keys.file.read_bytes() == before


def test_a_credential_of_systemd(keys: KeysSettings, tmp_path: Path) -> None:
    keystore.create(keys)
    by_credential = KeysSettings(file=keys.file, credential="passphrase")
    keystore.load(by_credential, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    with pytest.raises(KeyStoreError, match=r"needs systemd"):
        keystore.load(by_credential, {})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda keys: keys.file.unlink(), "does not exist; make it with: cad keys init"),
        (lambda keys: keys.file.chmod(0o640), r"open to others \(mode 0640\); run: chmod 600"),
        (lambda keys: keys.passphrase_file.chmod(0o604), r"passphrase file .* is open to others"),
        (lambda keys: keys.passphrase_file.write_bytes(b"\n"), "is empty"),
        (lambda keys: keys.passphrase_file.unlink(), "passphrase file .* does not exist"),
        (lambda keys: keys.passphrase_file.write_bytes(b"wrong passphrase"), "passphrase is wrong"),
        (lambda keys: keys.file.write_bytes(b"{}"), "not a key file"),
        (lambda keys: keys.file.write_bytes(b'{"format": "other"}'), "another version"),
        (lambda keys: (keys.file.unlink(), keys.file.mkdir()), "not a regular file"),
    ],
)
def test_mishaps_say_what_to_do(keys: KeysSettings, spoil: object, words: str) -> None:
    keystore.create(keys)
    spoil(keys)  # type: ignore[operator]
    with pytest.raises(KeyStoreError, match=words) as caught:
        keystore.load(keys)
    assert PASSPHRASE.decode() not in str(caught.value)


def test_a_short_passphrase_is_refused(keys: KeysSettings) -> None:
    assert keys.passphrase_file is not None
    keys.passphrase_file.write_bytes(b"short")
    with pytest.raises(KeyStoreError, match="too short"):
        keystore.create(keys)
    assert not keys.file.exists()


@pytest.mark.parametrize("change", ["n", "r", "p", "salt", "nonce", "sealed"])
def test_every_changed_field_is_found(change: str) -> None:
    content = json.loads(keystore.seal(KEY, PASSPHRASE))
    if change in ("n", "r", "p"):
        content["scrypt"][change] *= 2
    elif change == "salt":
        content["scrypt"]["salt"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    else:
        content[change] = content[change][:-8] + "AAAAAAA="
    with pytest.raises(KeyStoreError, match=r"wrong|damaged"):
        keystore.unseal(json.dumps(content).encode(), PASSPHRASE)


def test_parameters_that_would_eat_the_machine_are_refused() -> None:
    content = json.loads(keystore.seal(KEY, PASSPHRASE))
    content["scrypt"]["n"] = 2**40
    with pytest.raises(KeyStoreError, match="out of bounds"):
        keystore.unseal(json.dumps(content).encode(), PASSPHRASE)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    st.binary(max_size=400)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(st.sampled_from(["format", "scrypt", "nonce", "sealed", "n", "r", "p"]), inner),
    ).map(lambda value: json.dumps(value).replace('"format": null', f'"format": "{keystore.FORMAT}"').encode())
)
def test_arbitrary_bytes_give_our_own_error(data: bytes) -> None:
    with pytest.raises(KeyStoreError):
        keystore.unseal(data, PASSPHRASE)


def test_neither_key_nor_passphrase_shows_itself() -> None:
    content = keystore.seal(KEY, PASSPHRASE)
    assert bytes(KEY) not in content
    assert PASSPHRASE.hex() not in content.decode()
    assert KEY.hex() not in repr(LocalMasterKey(keystore.unseal(content, PASSPHRASE)))
