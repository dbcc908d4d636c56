"""Our own key sets: one for every chip, from the master key, and never anybody else's."""

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode

from cards.globalplatform.dialogue import link
from cards.globalplatform.errors import KeySetUnknownError
from cards.globalplatform.key_ring import DerivedKeyRing
from cards.globalplatform.scp03.keys import INITIAL_VERSION
from emm.keys import LocalMasterKey
from tests.support.globalplatform import OWN, SERIAL, TRANSPORT, Reader, TestRing, stock, terms, whole_life

MASTER = bytes(range(32))


def ring(known: tuple[int, ...] = (INITIAL_VERSION, TRANSPORT)) -> DerivedKeyRing:
    return DerivedKeyRing(LocalMasterKey(MASTER), OWN, TestRing(size=32, known=known))


@pytest.mark.parametrize("identifier", [1, 2, 3])
def test_keys_are_those_of_an_independent_kdf(identifier: int) -> None:
    judge = KBKDFCMAC(
        AES, Mode.CounterMode, 32, 4, 4, CounterLocation.BeforeFixed,
        b"cad channel key", SERIAL + bytes((OWN, identifier)), None,
    )  # fmt: skip
    assert ring().static_keys(OWN, SERIAL).keys[identifier - 1].reveal() == judge.derive(MASTER)


def test_no_two_keys_are_the_same() -> None:
    chips = [SERIAL, bytes(10), bytes(9) + b"\1"]
    other = DerivedKeyRing(LocalMasterKey(MASTER), 0x32, TestRing())
    sets = [ring().static_keys(OWN, chip) for chip in chips] + [other.static_keys(0x32, SERIAL)]
    assert len({key.reveal() for keys in sets for key in keys.keys}) == 12


def test_other_versions_come_from_elsewhere_or_not_at_all() -> None:
    assert ring().static_keys(TRANSPORT, SERIAL) == TestRing(size=32).static_keys(TRANSPORT, SERIAL)
    with pytest.raises(KeySetUnknownError):
        ring(known=()).static_keys(TRANSPORT, SERIAL)
    assert MASTER.hex()[:8] not in repr(ring())


def test_a_card_is_made_with_derived_keys() -> None:
    manager, _ = stock(size=32)
    Reader(manager).run(whole_life(link(extended=False), terms(ring())))
    assert manager.state.key_sets[0].keys == ring().static_keys(OWN, SERIAL)
