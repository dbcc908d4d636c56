"""The key ladder: its published vectors, an independent KDF, and what it refuses."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode
from hypothesis import given
from hypothesis import strategies as st

from emm.errors import BuildError
from emm.keys import KeyLadder, LocalMasterKey, derive
from emm.pairing import pair_key
from emm.secret import Secret
from protocol import receiver_number
from tests.support import reference_formats as reference
from tests.support.vectors import load_vectors

VECTORS = load_vectors("keys.json")
MASTER = bytes.fromhex(VECTORS["master_key"])
LADDER = KeyLadder(LocalMasterKey(MASTER))


def test_published_keys_are_derived_by_both_implementations() -> None:
    for each in VECTORS["card_keys"]:
        expected = bytes.fromhex(each["key"])
        assert LADDER.card_key(each["address"], each["key_version"]) == expected
        assert reference.card_key(MASTER, each["address"], each["key_version"]) == expected
    for each in VECTORS["group_keys"]:
        expected = bytes.fromhex(each["key"])
        assert LADDER.group_key(each["group"], each["key_version"]) == expected
        assert reference.group_key(MASTER, each["group"], each["key_version"]) == expected
    for each in VECTORS["global_keys"]:
        expected = bytes.fromhex(each["key"])
        assert LADDER.global_key(each["key_version"]) == expected
        assert reference.global_key(MASTER, each["key_version"]) == expected
    for each in VECTORS["product_keys"]:
        expected = bytes.fromhex(each["key"])
        assert LADDER.product_key(each["product_id"], each["epoch"]) == expected
        assert reference.product_key(MASTER, each["product_id"], each["epoch"]) == expected
    for each in VECTORS["pairing_keys"]:
        receiver = receiver_number.parse(each["receiver"])
        assert LADDER.pairing_key(receiver) == bytes.fromhex(each["key"]) == reference.pairing_key(MASTER, receiver)
    for each in VECTORS["pair_keys"]:
        receiver = receiver_number.parse(each["receiver"])
        assert pair_key(LADDER.pairing_key(receiver), each["address"]) == bytes.fromhex(each["key"])
        assert reference.pair_key(MASTER, receiver, each["address"]) == bytes.fromhex(each["key"])
    assert LADDER.audit_key() == bytes.fromhex(VECTORS["audit_key"]) == reference.audit_key(MASTER)


@given(
    master=st.binary(min_size=32, max_size=32),
    label=st.binary(min_size=1, max_size=20).filter(lambda label: b"\x00" not in label),
    context=st.binary(max_size=12),
    size=st.sampled_from([16, 32, 33]),
)
def test_kdf_agrees_with_kbkdf_of_cryptography(master: bytes, label: bytes, context: bytes, size: int) -> None:
    judge = KBKDFCMAC(
        algorithm=AES,
        mode=Mode.CounterMode,
        length=size,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    )
    assert derive(LocalMasterKey(master).cmac, label, context, size) == judge.derive(master)


def test_every_purpose_and_number_has_a_key_of_its_own() -> None:
    keys = [
        *(LADDER.card_key(address, version) for address in (0, 1, 256) for version in (0, 1)),
        *(LADDER.group_key(group, version) for group in (0, 1, 256) for version in (0, 1)),
        *(LADDER.global_key(version) for version in (0, 1)),
        *(LADDER.product_key(product, epoch) for product in (1, 2, 256) for epoch in (0, 1, 256)),
        LADDER.audit_key(),
        LADDER.extract_key(),
    ]
    assert len({bytes(key[:16]) for key in keys}) == len(keys)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: LADDER.card_key(1 << 40, 1),
        lambda: LADDER.card_key(-1, 1),
        lambda: LADDER.card_key(1, 256),
        lambda: LADDER.group_key(1 << 32, 1),
        lambda: LADDER.global_key(256),
        lambda: LADDER.product_key(65536, 1),
        lambda: LADDER.product_key(1, 65536),
        lambda: LocalMasterKey(bytes(16)),
    ],
)
def test_numbers_without_a_place_are_refused(ask: Callable[[], object]) -> None:
    with pytest.raises(BuildError):
        ask()


def test_keys_do_not_show_themselves() -> None:
    key = LADDER.card_key(1, 1)
    assert isinstance(key, Secret)
    shown = f"{key}{key!r}{key!s}{key:>40}{[key]}{(key,)}{LADDER!r}{LocalMasterKey(MASTER)!r}{LADDER.__dict__}"
    for secret in (key, MASTER):
        assert secret.hex() not in shown
        assert repr(bytes(secret))[2:-1] not in shown
    assert key == bytes(key)
    assert hash(key) == hash(bytes(key))
