"""The primitives under EMM and ECM, and the second implementation, against RFC, NIST and Wycheproof vectors."""

from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from emm.keys import LocalMasterKey, counter_kdf
from tests.support import reference_formats as reference
from tests.support.vectors import load_vectors

RFC5297 = load_vectors("rfc5297_aes_siv.json")["vectors"]
WYCHEPROOF = load_vectors("wycheproof_aes_siv_cmac_256.json")["vectors"]
CMAC = load_vectors("nist_sp800_38b_aes_cmac.json")["vectors"]
CAVP = load_vectors("nist_cavp_sp800_108_cmac.json")["vectors"]


def test_vector_files_are_complete() -> None:
    assert (len(RFC5297), len(WYCHEPROOF), len(CMAC), len(CAVP)) == (2, 148, 8, 80)
    assert {vector["result"] for vector in WYCHEPROOF} == {"valid", "invalid"}


@pytest.mark.parametrize("vector", RFC5297, ids=lambda vector: f"A.{vector['count'] + 1}")
def test_siv_of_rfc_5297(vector: dict[str, Any]) -> None:
    key, plaintext = bytes.fromhex(vector["key"]), bytes.fromhex(vector["plaintext"])
    ad = [bytes.fromhex(each) for each in vector["ad"]]
    sealed = bytes.fromhex(vector["tag"] + vector["ciphertext"])
    assert AESSIV(key).encrypt(plaintext, ad) == sealed
    assert AESSIV(key).decrypt(sealed, ad) == plaintext
    assert reference.siv_seal(key, ad, plaintext) == sealed
    assert reference.siv_open(key, ad, sealed) == plaintext


def test_siv_of_wycheproof() -> None:
    for vector in WYCHEPROOF:
        key, plaintext = bytes.fromhex(vector["key"]), bytes.fromhex(vector["plaintext"])
        ad, sealed = [bytes.fromhex(vector["ad"])], bytes.fromhex(vector["sealed"])
        if vector["result"] == "valid":
            assert AESSIV(key).decrypt(sealed, ad) == plaintext, vector["tc_id"]
            assert AESSIV(key).encrypt(plaintext, ad) == sealed, vector["tc_id"]
            assert reference.siv_seal(key, ad, plaintext) == sealed, vector["tc_id"]
        else:
            with pytest.raises(InvalidTag):
                AESSIV(key).decrypt(sealed, ad)
            with pytest.raises(reference.RefusedError):
                reference.siv_open(key, ad, sealed)


@pytest.mark.parametrize("vector", CMAC, ids=lambda vector: f"AES-{vector['key_bits']}-{vector['count']}")
def test_cmac_of_rfc_4493_and_sp_800_38b(vector: dict[str, Any]) -> None:
    key, message, mac = (bytes.fromhex(vector[name]) for name in ("key", "message", "mac"))
    assert reference.cmac(key, message) == mac
    if len(key) == 32:
        assert LocalMasterKey(key).cmac(message) == mac


def test_kdf_of_the_nist_validation_programme() -> None:
    for vector in CAVP:
        key, fixed, derived = (bytes.fromhex(vector[name]) for name in ("key", "fixed_input", "derived"))

        def prf(message: bytes, key: bytes = key) -> bytes:
            return reference.cmac(key, message)

        assert counter_kdf(prf, fixed, vector["l_bits"] // 8) == derived, vector["count"]
        if len(key) == 32:
            assert counter_kdf(LocalMasterKey(key).cmac, fixed, vector["l_bits"] // 8) == derived, vector["count"]
