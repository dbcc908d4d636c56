"""Labels, judged by others: poppler draws them and reads their text, zbar reads their barcodes."""

import subprocess
from pathlib import Path

import pytest

from cad.errors import BatchFileError
from cad.stock import results
from cad.stock.journal import ChipRecord
from cad.stock.labels import SHEETS, render
from protocol import card_number
from protocol.errors import CardNumberError

NUMBERS = [card_number.spell(10_000_000_000 + 977 * number) for number in range(30)]


@pytest.mark.integration
@pytest.mark.parametrize("name", SHEETS)
def test_every_barcode_and_number_can_be_read(tmp_path: Path, name: str) -> None:
    numbers = NUMBERS[:3] if name == "card" else NUMBERS
    (tmp_path / "labels.pdf").write_bytes(render(numbers, SHEETS[name], "Karjaa TV & Co <Ltd>"))
    subprocess.run(["pdftoppm", "-r", "300", "-gray", "labels.pdf", "page"], cwd=tmp_path, check=True)
    pages = sorted(page.name for page in tmp_path.glob("page*"))
    assert len(pages) == -(-len(numbers) // SHEETS[name].labels)
    read = subprocess.run(
        ["zbarimg", "--quiet", "--raw", "-Sdisable", "-Scode128.enable", *pages],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(read.stdout.split()) == sorted(numbers)
    text = subprocess.run(["pdftotext", "labels.pdf", "-"], cwd=tmp_path, capture_output=True, text=True).stdout
    for number in numbers:
        assert f"{number[:4]} {number[4:8]} {number[8:]}" in text
    assert text.count("Karjaa TV & Co <Ltd>") == len(numbers)


def test_the_same_cards_give_the_same_bytes() -> None:
    assert render(NUMBERS, SHEETS["a4-24"], "x") == render(NUMBERS, SHEETS["a4-24"], "x")


def test_a_wrong_number_is_never_printed() -> None:
    with pytest.raises(CardNumberError):
        render(["100000000009"], SHEETS["card"], "x")


def test_the_result_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    chips = [
        ChipRecord(f"{number:020X}", 5 - number, made_at="2027-01-15T08:00:00Z", recorded=number != 2)
        for number in range(4)
    ]
    path = tmp_path / "box.csv"
    results.write(path, chips)
    assert [row.number for row in results.read(path)] == [card_number.spell(address) for address in (2, 4, 5)]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "first line must be"),
        (b"number,serial\n", "first line must be"),
        (b"number,serial,made_at,key_check_values\n1,2\n", "line 2"),
        (b"number,serial,made_at,key_check_values\n100000000009,s,t,v\n", "line 2"),
        (b"\xff\xfe", "not text"),
    ],
)
def test_what_is_not_a_result_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "box.csv").write_bytes(content)
    with pytest.raises(BatchFileError, match=said):
        results.read(tmp_path / "box.csv")
    with pytest.raises(BatchFileError, match="cannot be read"):
        results.read(tmp_path / "nothing.csv")
