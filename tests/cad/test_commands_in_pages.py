"""Every `cad` command that a page of docs/ shows is one, and has the options that are shown with it."""

import re
import shlex
from pathlib import Path

import click
import pytest

from cad.cli.main import cli

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("technician.md", "personalisation.md", "card-vendor.md", "card.md", "operator.md", "probe.md", "headend.md")
# In a paragraph (`cad card verify --watch`), or after a prompt in a block.
SHOWN = re.compile(r"`(cad [^`]+)`|^ {4}[$#] (cad [^\n#]+)", re.MULTILINE)
LABELS = {"cad channel key", "cad card authentication", "cad master key"}
"""Of derived keys; they only look like commands."""


def commands(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return sorted({first or second for first, second in SHOWN.findall(text)} - LABELS)


@pytest.mark.parametrize(("page", "shown"), [(page, shown) for page in PAGES for shown in commands(page)])
def test_it_can_be_typed(page: str, shown: str) -> None:
    words = [re.sub(r"[…,;.]+$", "", word) for word in shlex.split(shown.replace("'", ""))[1:]]
    found: click.Command = cli
    context = click.Context(cli)
    while words and isinstance(found, click.Group):
        name = words.pop(0)
        if name.startswith("-") or "|" in name or not name:  # `cad --help`, `cad keys init|show`
            return
        below = found.get_command(context, name)
        assert below is not None, f"{page}: {shown}: {found.name} has no {name}"
        found = below
    known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known | {"--help"}, f"{page}: {shown}: {found.name} has no {word}"


def test_the_technicians_page_shows_all_of_his_commands() -> None:
    shown = {" ".join(one.split()[1:3]) for one in commands("technician.md")}
    assert {"card verify", "card refresh", "card gui", "card read", "card explain", "card pin", "field fetch"} <= shown
