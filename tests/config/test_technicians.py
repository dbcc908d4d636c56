"""Settings about technicians: the headend's table and the laptop's own file."""

from pathlib import Path

import pytest

from config import crosscheck, technician_file
from config.errors import SettingsError
from config.load import load, loads

EXAMPLE = Path("config/cad.example.toml").read_text()
LAPTOP = Path("config/technician.example.toml").read_text()


def problems(text: str) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        loads(text.encode())
    return {problem.where: problem.text for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("find", "put", "where", "words"),
    [
        ('role = "technician"', 'role = "god"', "technicians.people.0.role", "'read-only', 'technician' or 'operator'"),
        ('name = "tech-anna"', 'name = ""', "technicians.people.0.name", "at least 1 character"),
        ('name = "tech-anna"', 'name = "a\\nb"', "technicians.people.0.name", "pattern"),
        (
            'operator = "north-telco"',
            'operator = "north-telko"',
            "technicians.people.0.operator",
            "did you mean 'north-telco'",
        ),
        ("extract_days = 7", "extract_days = 32", "technicians.extract_days", "less than or equal to 31"),
        ('"192.0.2.1:8443"', '""', "technicians.listen", "at least 1 character"),
        ('"/etc/cad/tls/headend.key"', '"headend.key"', "technicians.key_file", "write an absolute path"),
    ],
)
def test_what_is_wrong_about_technicians_is_said(find: str, put: str, where: str, words: str) -> None:
    assert find in EXAMPLE
    found = problems(EXAMPLE.replace(find, put, 1))
    assert list(found) == [where]
    assert words in found[where]


def test_one_certificate_is_one_person() -> None:
    person = '[[technicians.people]]\nname = "tech-anna"\noperator = "south-telco"\n'
    text = EXAMPLE.replace("# --- a network: multi", person + "# --- a network: multi", 1)
    assert problems(text) == {
        "technicians.people.1.name": "'tech-anna' is used twice in technicians.people: first at technicians.people.0"
    }


def test_a_port_for_nobody_is_remarked_on(tmp_path: Path) -> None:
    begin, end = EXAMPLE.index("[[technicians.people]]"), EXAMPLE.index("# --- a network: multi")
    path = tmp_path / "cad.toml"
    path.write_text(EXAMPLE[:begin] + EXAMPLE[end:])
    assert [problem.where for problem in crosscheck.remarks(load(path))] == ["technicians"]


def test_the_laptops_example_can_be_used_and_its_paths_count_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "technician.toml"
    path.write_text(LAPTOP)
    found = technician_file.load(path)
    assert found.headend == "https://headend.example.net:8443"
    assert found.key_file == tmp_path / "me.key"
    assert found.state_dir == Path.home() / ".local/state/cad"
    assert found.card_aid.hex() == "f0434144454d4d01"


@pytest.mark.parametrize(
    ("find", "put", "words"),
    [
        ('"https://headend', '"http://headend', "headend: write the headend's address as https://host:port"),
        ("key_file", "key_fiel", "unknown key; did you mean 'key_file'?"),
        ('key_file = "me.key"', "", "key_file: is missing"),
        ("headend = ", "headend = = ", "is not TOML"),
    ],
)
def test_what_is_wrong_in_the_laptops_file_is_said(tmp_path: Path, find: str, put: str, words: str) -> None:
    path = tmp_path / "technician.toml"
    path.write_text(LAPTOP.replace(find, put, 1))
    with pytest.raises(SettingsError, match=r"technician\.toml") as caught:
        technician_file.load(path)
    assert words in str(caught.value)


def test_a_missing_or_huge_laptop_file_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        technician_file.load(tmp_path / "none")
    (tmp_path / "big").write_bytes(b"#" * 70_000)
    with pytest.raises(SettingsError, match="too large"):
        technician_file.load(tmp_path / "big")
