"""docs/technician.md says what verdicts, documents and options there are."""

import re
from pathlib import Path

import click
import pytest

from cad.cli.cards.field import group as field
from cad.cli.cards.gui import command as gui
from cad.cli.cards.verify import command as verify
from cad.cli.cards.verify import refresh_command as refresh
from cad.cli.shell.exit_codes import ExitCode
from cad.field.report import LineDocument, ReportDocument
from cad.technicians.people import Act, Person
from cards.verify import PASSING, Code
from config.technicians import Role

TEXT = Path("docs/technician.md").read_text(encoding="utf-8")
OPERATOR = Path("docs/operator.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", Code)
def test_every_verdict_stands_in_the_page_with_its_word(code: Code) -> None:
    assert f"| `{code.value}` | {'PASS' if code in PASSING else 'FAIL'} |" in TEXT


def test_every_field_of_a_report_stands_in_the_page() -> None:
    for field_name in [*ReportDocument.model_fields, *LineDocument.model_fields]:
        assert f"`{field_name}`" in TEXT, field_name


@pytest.mark.parametrize("command", [verify, refresh, gui, *field.commands.values()], ids=lambda one: str(one.name))
def test_every_option_stands_in_the_page(command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert f"`{parameter.opts[0]}`" in TEXT, parameter.opts[0]


@pytest.mark.parametrize(
    "code",
    [
        ExitCode.OK,
        ExitCode.USAGE,
        ExitCode.SETTINGS,
        ExitCode.CHECK_FAILED,
        ExitCode.UNREACHABLE,
        ExitCode.NOT_FOUND,
        ExitCode.STATE,
        ExitCode.CARD,
        ExitCode.INPUT,
        ExitCode.FAILED,
    ],
)
def test_every_exit_code_stands_in_the_page_once(code: ExitCode) -> None:
    assert len(re.findall(rf"^\| {int(code)} \|", TEXT, re.MULTILINE)) == 1


def test_every_role_stands_in_the_operators_page() -> None:
    for role in Role.__args__:  # type: ignore[attr-defined]
        assert f"| `{role}` |" in OPERATOR
        Person("x", "y", role).need(Act.LOOK)


def test_every_picture_is_there() -> None:
    for name in re.findall(r"\]\((images/[^)]+)\)", TEXT):
        assert (Path("docs") / name).stat().st_size > 10_000
