"""A vendor's transport keys: opened once, checked one by one, kept sealed under the master key."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cad.errors import BatchFileError, CadError, KeyStoreError
from cad.stock.transport_keys import import_vendor_file, read_delivery, write_delivery
from cards.globalplatform.errors import KeySetUnknownError
from emm.keys import LocalMasterKey
from tests.support.globalplatform import TRANSPORT, static_keys
from tests.support.stock import MASTER, TRANSPORT_KEY, serial, vendor_file

KEYS = LocalMasterKey(MASTER)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, list[Path]]:
    """The vendor's file, and the transport key in three components."""
    (tmp_path / "vendor.json").write_bytes(vendor_file(3))
    parts = [os.urandom(32), os.urandom(32)]
    parts.append(bytes(a ^ b ^ c for a, b, c in zip(TRANSPORT_KEY, *parts, strict=True)))
    paths = []
    for number, part in enumerate(parts):
        paths.append(tmp_path / f"component-{number}")
        paths[-1].touch(mode=0o600)
        paths[-1].write_text(part.hex() + "\n")
    return tmp_path / "vendor.json", paths


def test_imported_kept_and_used(files, tmp_path: Path) -> None:
    made = import_vendor_file(*files, KEYS)
    write_delivery(tmp_path / "d17.keys", made)
    assert (tmp_path / "d17.keys").stat().st_mode & 0o777 == 0o600
    kept = read_delivery(tmp_path / "d17.keys", KEYS)
    assert (kept.vendor, kept.name, kept.key_version, len(kept)) == ("Chips Ltd", "D-17", TRANSPORT, 3)
    for number in range(3):
        assert kept.static_keys(TRANSPORT, serial(number)) == static_keys(TRANSPORT, serial(number))
    with pytest.raises(BatchFileError, match="exists already"):
        write_delivery(tmp_path / "d17.keys", made)
    for version, chip in ((TRANSPORT, serial(9)), (0x31, serial(0))):
        with pytest.raises(KeySetUnknownError):
            kept.static_keys(version, chip)


def test_no_key_stands_in_the_file(files, tmp_path: Path) -> None:
    write_delivery(tmp_path / "d17.keys", import_vendor_file(*files, KEYS))
    content = (tmp_path / "d17.keys").read_bytes().lower()
    for number in range(3):
        for key in static_keys(TRANSPORT, serial(number)).keys:
            assert key.reveal() not in content
            assert key.reveal().hex().encode() not in content
    assert set(tmp_path.iterdir()) == {tmp_path / "d17.keys", files[0], *files[1]}


def test_another_master_key_opens_nothing(files, tmp_path: Path) -> None:
    write_delivery(tmp_path / "d17.keys", import_vendor_file(*files, KEYS))
    with pytest.raises(KeyStoreError, match="imported under another master key"):
        read_delivery(tmp_path / "d17.keys", LocalMasterKey(bytes(32)))


def test_keys_of_one_chip_are_not_taken_for_those_of_another(files, tmp_path: Path) -> None:
    write_delivery(tmp_path / "d17.keys", import_vendor_file(*files, KEYS))
    content = json.loads((tmp_path / "d17.keys").read_text())
    first, second = list(content["chips"])[:2]
    content["chips"][first], content["chips"][second] = content["chips"][second], content["chips"][first]
    (tmp_path / "d17.keys").write_text(json.dumps(content))
    with pytest.raises(BatchFileError, match="damaged"):
        read_delivery(tmp_path / "d17.keys", KEYS).static_keys(TRANSPORT, serial(0))


def test_a_missing_component_is_told_by_the_check_value(files) -> None:
    with pytest.raises(BatchFileError, match="are these all components"):
        import_vendor_file(files[0], files[1][:2], KEYS)


def test_components_open_to_others_or_strange_are_refused(files) -> None:
    files[1][0].chmod(0o644)
    with pytest.raises(BatchFileError, match="chmod 600"):
        import_vendor_file(*files, KEYS)
    files[1][0].chmod(0o600)
    for content, said in (("xyz", "hexadecimal"), ("00ff", "16, 24 or 32 bytes"), ("00" * 16, "16, 24 or 32 bytes")):
        files[1][1].write_text(content)
        with pytest.raises(BatchFileError, match=said):
            import_vendor_file(*files, KEYS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["chips"].append(dict(d["chips"][0])), "twice"),
        (lambda d: d["chips"][1].update(enc=d["chips"][0]["enc"]), "does not fit its check value"),
        (lambda d: d["chips"][1].update(enc="00" * 24), "does not open under the transport key"),
        (lambda d: d["chips"][1].pop("kcv"), "chips.1.kcv"),
        (lambda d: d.update(chips=[]), "chips"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d.update(key_version=0xFF), "key_version"),
        (lambda d: d.update(transport_key_kcv="000000"), "are these all components"),
    ],
)
def test_a_file_with_one_fault_is_refused_whole(files, change, said: str) -> None:
    document = json.loads(files[0].read_text())
    change(document)
    files[0].write_text(json.dumps(document))
    with pytest.raises(BatchFileError, match=said):
        import_vendor_file(*files, KEYS)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda c: (
            st.lists(c)
            | st.dictionaries(st.sampled_from(["format", "chips", "check", "vendor", "delivery", "key_version"]), c)
        ),
        max_leaves=12,
    ).map(lambda d: json.dumps(d).encode())
)
def test_anything_gives_a_delivery_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "file"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(CadError):
        read_delivery(path, KEYS)
    with pytest.raises(CadError):
        import_vendor_file(path, [path], KEYS)
