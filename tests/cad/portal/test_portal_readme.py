"""docs/portal/README.md speaks of what is there."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import cad.portal
from cad.demo import sandbox
from cad.portal.client import PortalClient
from cad.portal.settings import DAY_S, PortalSettings
from protocol.portal.commands.parsing import COMMANDS
from protocol.portal.version import SCHEMAS

FOLDER = Path(__file__).parents[3] / "docs" / "portal"
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_public_part_of_the_client_is_on_the_page() -> None:
    public = {name for name, _ in inspect.getmembers(PortalClient) if not name.startswith("_")}
    public |= {"last_error", "headends"}
    table = TEXT.partition("| call |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(?:await |async for event in )?([a-z_]+)(?:\(.*?\))?`", table)) - {"asyncio", "keep_s"}
    assert public <= named


def test_times_and_topics_are_those_of_the_code() -> None:
    settings = {name: field.default for name, field in PortalSettings.__dataclass_fields__.items()}
    assert (settings["repeat_after_s"], settings["repeat_max_s"], settings["keep_s"]) == (10.0, 300.0, 30 * DAY_S)
    for topic in (sandbox.CLOCK_TOPIC, sandbox.SET_TOPIC, sandbox.CARD_TOPIC):
        assert f"`{topic}" in TEXT
    assert f'`"schemas": ["{SCHEMAS[0]}"]`' in TEXT


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    for link in links:
        assert (FOLDER / link).exists(), link


def test_the_first_order_needs_no_root() -> None:
    first = TEXT.partition("## The first order")[2].partition("\n## ")[0]
    assert "scripts/setup run && .venv/bin/cad demo --portal --port 1883" in first
    assert "make setup" not in TEXT, "it installs Debian packages"


PYTHON = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_each_python_block_can_be_compiled_and_imports_what_is_there(block: str) -> None:
    tree = compile(block, "README.md", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    compile(tree, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    imports = [one for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)]
    assert imports
    for one in imports:
        assert one.module is not None
        for name in one.names:
            assert hasattr(importlib.import_module(one.module), name.name), (one.module, name.name)


def test_every_command_is_imported_from_one_place() -> None:
    assert {command.__name__ for command in COMMANDS.values()} <= set(cad.portal.__all__)
    assert all(hasattr(cad.portal, name) for name in cad.portal.__all__)
