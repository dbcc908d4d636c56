"""The master key in a real token (SoftHSM): made there, used there, never to be had out of it."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cad import keystore
from cad.errors import KeyStoreError
from cad.token_keystore import Token, TokenMasterKey
from cards.globalplatform.key_ring import DerivedKeyRing
from config.settings import KeysSettings
from emm.keys import KeyLadder, LocalMasterKey
from emm.secret import Secret
from tests.support.globalplatform import SERIAL, TestRing
from tests.support.softhsm import MODULE, PIN, SoftHsm

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("softhsm")]

KNOWN = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
SETTINGS = """
[node]
state_dir = "{folder}/state"
socket = "{folder}/s"
[mqtt]
host = "localhost"
[keys]
kind = "pkcs11"
module = "{module}"
token = "{token}"
passphrase_file = "{folder}/pin"
[ca]
ca_system_id = 0x4AD1
[[networks]]
id = "south"
"""


def token(label: str, pin: str = PIN, key_label: str = "cad master key") -> Token:
    return Token(MODULE, label, key_label, Secret(pin.encode()))


def put(label: str, value: bytes, **attributes: bool) -> None:
    """Put a key that we know into a token, as no operator would."""
    import pkcs11
    from pkcs11 import Attribute, KeyType, ObjectClass

    with pkcs11.lib(str(MODULE)).get_token(token_label=label).open(rw=True, user_pin=PIN) as session:
        session.create_object(
            {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: KeyType.AES,
                Attribute.VALUE: value,
                Attribute.LABEL: "cad master key",
                Attribute.TOKEN: True,
                Attribute.PRIVATE: True,
                Attribute.SIGN: True,
                Attribute.SENSITIVE: attributes.get("sensitive", True),
                Attribute.EXTRACTABLE: attributes.get("extractable", False),
            }
        )


def test_the_token_answers_as_nist_says_and_derives_all_keys_as_the_file_does(hsm: SoftHsm) -> None:
    put("known", KNOWN)
    master, local = TokenMasterKey(token("known").key, lambda: 0.0), LocalMasterKey(KNOWN)
    # NIST SP 800-38B, D.3, examples 10 and 9.
    message = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411")
    assert master.cmac(message).hex() == "aaf3d8f1de5640c232f5b169b9c911e6"
    assert master.cmac(b"").hex() == "028962f61b7bf89efc6b551f4667d983"
    token_ladder, ladder = KeyLadder(master), KeyLadder(local)
    assert token_ladder.card_key(12_345_678_901, 1) == ladder.card_key(12_345_678_901, 1)
    assert token_ladder.product_key(7, 700) == ladder.product_key(7, 700)
    assert token_ladder.audit_key() == ladder.audit_key()
    rings = [DerivedKeyRing(one, 0x31, TestRing()).static_keys(0x31, SERIAL) for one in (master, local)]
    assert rings[0] == rings[1]


def test_a_key_made_in_the_token_cannot_be_had_out_of_it(hsm: SoftHsm) -> None:
    import pkcs11
    from pkcs11 import Attribute

    token("cad").make()
    key = token("cad").key()
    assert key[Attribute.SENSITIVE]
    assert not key[Attribute.EXTRACTABLE]
    assert key[Attribute.ALWAYS_SENSITIVE]
    assert key[Attribute.NEVER_EXTRACTABLE]
    assert key[Attribute.LOCAL]
    with pytest.raises(pkcs11.AttributeSensitive):
        _ = key[Attribute.VALUE]
    with pytest.raises(KeyStoreError, match="has a key named 'cad master key' already"):
        token("cad").make()
    first, second = TokenMasterKey(token("cad").key, lambda: 0.0), TokenMasterKey(token("cad").key, lambda: 0.0)
    assert keystore.fingerprint(first) == keystore.fingerprint(second)
    assert len(first.cmac(b"x")) == 16


@pytest.mark.parametrize(
    ("label", "value", "attributes", "said"),
    [
        ("unsafe", KNOWN, {"extractable": True}, "could be read out of the token"),
        ("short", KNOWN[:16], {}, "has 128 bits; 256 are needed"),
    ],
)
def test_a_key_that_is_not_safe_is_refused(hsm, label, value, attributes, said) -> None:
    put(label, value, **attributes)
    with pytest.raises(KeyStoreError, match=said):
        token(label).key()


def test_what_is_missing_or_wrong_is_said_in_words(hsm: SoftHsm) -> None:
    with pytest.raises(KeyStoreError, match="there is no token named 'nowhere'"):
        token("nowhere").key()
    with pytest.raises(KeyStoreError, match="has no AES key named 'cad master key'; make it with: cad keys init"):
        token("empty").key()
    with pytest.raises(KeyStoreError, match="the PIN is wrong") as wrong:
        token("pins", pin="canary-wrong-pin").key()
    assert "It was tried once" in str(wrong.value)
    assert "canary" not in str(wrong.value)
    with pytest.raises(KeyStoreError, match="cannot be loaded"):
        Token(Path("/nonexistent.so"), "cad", "k", Secret(b"1234")).key()
    assert PIN not in repr(token("cad"))


def test_a_lost_session_is_opened_again_and_not_too_often(hsm: SoftHsm) -> None:
    put("lost", KNOWN)
    opened: list[object] = []
    now = [0.0]

    def open_key() -> object:
        opened.append(token("lost").key())
        return opened[-1]

    master = TokenMasterKey(open_key, lambda: now[0])
    expected = LocalMasterKey(KNOWN).cmac(b"x")
    opened[-1].session.close()
    with pytest.raises(KeyStoreError, match="does not answer"):
        master.cmac(b"x")
    assert len(opened) == 1
    now[0] = 2.0
    assert master.cmac(b"x") == expected
    assert len(opened) == 2


def cad(hsm: SoftHsm, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cad", *arguments], capture_output=True, text=True, env=hsm.environment
    )


def test_keys_init_and_show_and_nothing_secret_in_what_they_say(hsm: SoftHsm, tmp_path: Path) -> None:
    hsm.make("command")
    config = tmp_path / "cad.toml"
    config.write_text(SETTINGS.format(folder=tmp_path, module=MODULE, token="command"))
    (tmp_path / "pin").touch(mode=0o600)
    (tmp_path / "pin").write_text(PIN + "\n")
    made = cad(hsm, "keys", "init", "--config", str(config))
    assert made.returncode == 0, made.stderr
    shown = cad(hsm, "keys", "show", "--json", "--config", str(config))
    said = json.loads(shown.stdout)
    assert said["fingerprint"] in made.stdout
    assert said == {"token": "command", "key_label": "cad master key", "fingerprint": said["fingerprint"]}
    again = cad(hsm, "keys", "init", "--config", str(config))
    assert again.returncode == 6
    assert "Every card in the field hangs on it" in again.stderr
    (tmp_path / "pin").write_text("canary-wrong-pin")
    wrong = cad(hsm, "keys", "show", "--config", str(config))
    assert wrong.returncode == 6
    assert "It was tried once" in wrong.stderr
    (tmp_path / "pin").chmod(0o644)
    assert "open to others" in cad(hsm, "keys", "show", "--config", str(config)).stderr
    for done in (made, shown, again, wrong):
        assert PIN not in done.stdout + done.stderr
        assert "canary" not in done.stdout + done.stderr


def test_the_pin_may_come_as_a_credential(hsm: SoftHsm, tmp_path: Path) -> None:
    (tmp_path / "hsm-pin").write_text(PIN)
    settings = KeysSettings(kind="pkcs11", module=MODULE, token="cad", credential="hsm-pin")
    with contextlib.suppress(KeyStoreError):  # another test may have made the key in this token already
        keystore.create(settings, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    master = keystore.load(settings, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert len(keystore.fingerprint(master)) == 6
    assert keystore.place(settings) == "key 'cad master key' in token 'cad'"
