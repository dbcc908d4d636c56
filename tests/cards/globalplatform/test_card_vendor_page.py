"""docs/card-vendor.md: its transcript, keys and example file are what the code gives; the example opens."""

import json
import re
from pathlib import Path

import pytest

from cad.stock.transport_keys import VendorChip, VendorFile, import_vendor_file
from emm.keys import LocalMasterKey
from tests.support.globalplatform import TRANSPORT, static_keys
from tests.support.stock import MASTER, serial
from tests.support.vendor_transcript import keys_used, transcript, transport_key, vendor_example

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "card-vendor.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("part", [transcript, keys_used, vendor_example, transport_key])
def test_the_page_holds_what_the_code_gives(part) -> None:
    assert part() in PAGE, f"put this into docs/card-vendor.md:\n{part()}"


def test_every_field_of_the_file_is_on_the_page() -> None:
    named = " ".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    for name in (*VendorFile.model_fields, *VendorChip.model_fields):
        assert re.search(rf"`(chips\[\])?\.?{name}`", named), name


def test_the_example_on_the_page_opens_under_the_key_on_the_page(tmp_path: Path) -> None:
    blocks = re.findall(r"^```\n(\{.*?\})\n```$", PAGE, re.MULTILINE | re.DOTALL)
    key = re.search(r"opens under the transport key `([0-9a-f]{64})`", PAGE)
    assert key is not None
    (tmp_path / "vendor.json").write_text(json.dumps(json.loads(blocks[0])))
    component = tmp_path / "component"
    component.touch(mode=0o600)
    component.write_text(key[1])
    made = import_vendor_file(tmp_path / "vendor.json", [component], LocalMasterKey(MASTER))
    assert made.static_keys(TRANSPORT, serial(0)) == static_keys(TRANSPORT, serial(0))
