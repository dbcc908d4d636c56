"""A verdict as a technician reads it out to the customer: PASS or FAIL first, then why."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cad.cli.cards.view import local
from cad.cli.shell.output import table
from cad.field.report import ReportDocument

BELLS = {True: "\a", False: "\a\a\a"}


def verdict_view(report: ReportDocument) -> RenderableType:
    """The verdict, the facts, the rights line by line."""
    word = Text(
        " PASS " if report.passed else " FAIL ", style="bold white on green" if report.passed else "bold white on red"
    )
    head = Text.assemble(word, " ", report.sentence)
    lines = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _facts(report):
        lines.add_row(escape(name), escape(value))
    parts: list[RenderableType] = [head, Text(f"Next: {report.advice}"), lines]
    if report.rights:
        rows = [
            (
                one.product,
                ", ".join(one.services) or "-",
                one.on_card or "-",
                one.ordered or "-",
                "yes" if one.agrees else "NO",
                "open" if one.open_now else "closed",
            )
            for one in report.rights
        ]
        parts.append(table(("product", "channels", "on the card", "ordered", "agree", "now"), rows, "rights"))
    return Group(*parts)


def _facts(report: ReportDocument) -> list[tuple[str, str]]:
    facts = [("reader", report.reader)]
    if report.number is not None:
        number = report.number
        facts.insert(0, ("card", f"{number[:4]} {number[4:8]} {number[8:]}"))
    if report.known_as:
        facts.append(("perhaps", report.known_as[0]))
    if report.genuine is not None:
        facts.append(("genuine", "yes" if report.genuine else "NO"))
    if report.state is not None:
        facts.append(("state", f"{report.state} ({report.reason})" if report.reason else report.state))
    facts += [
        (one.name, one.on_card if one.agrees else f"{one.on_card}, but ordered: {one.ordered}") for one in report.traits
    ]
    if report.last_emm is not None:
        facts.append(("last EMM heard", report.last_emm))
    if report.source_at is not None:
        where = "headend, just now" if report.source == "headend" else f"extract of {local(report.source_at)}"
        facts.append(("compared with", where))
    return [*facts, ("took", f"{report.took_s:.2f} s")]
