"""Offers as people read them: a catalogue under its headings, and what a load changes, field by field."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from cad.cli.shell.output import table

_MARKS: Final = {"new": "+", "changed": "~", "withdrawn": "-", "unchanged": " "}
_ELSEWHERE: Final = frozenset({"names", "heading", "kind", "products", "terms", "choose"})
_FACTS: Final = frozenset({"offer", "rev", "changed_at", "withdrawn_at", "subscriptions"})


def listing(found: Mapping[str, Any], language: str | None) -> RenderableType:
    """Tables of offers: one for each heading of each operator."""
    parts: list[RenderableType] = []
    for operator in found["operators"]:
        under: dict[str, list[Mapping[str, Any]]] = {}
        for offer in operator["offers"]:
            under.setdefault(_said(offer.get("heading"), language) or "without heading", []).append(offer)
        if not under:
            parts.append(Text(f"{operator['operator']} has no offers"))
        for heading, offers in sorted(under.items()):
            columns = ("offer", "name", "kind", "products", "terms", "subscriptions", "sold")
            lines = [_line(offer, language) for offer in offers]
            parts.append(table(columns, lines, f"{operator['operator']}: {heading}"))
    return Group(*parts)


def comparison(found: Mapping[str, Any]) -> RenderableType:
    """Lines on what becomes of each offer, and their sum."""
    lines: list[str] = []
    for one in found["offers"]:
        if one["change"] == "unchanged":
            continue
        cards = f"  ({one['cards']} cards)" if one["cards"] else ""
        lines.append(f"{_MARKS[one['change']]} {one['offer']}  {one['change']}{cards}")
        lines += [f"      {_changed(each)}" for each in one["fields"]]
        if one["code"] != "ok":
            lines.append(f"      refused, {one['code']}: {one['detail']}")
    counts = Counter(one["change"] for one in found["offers"])
    total = ", ".join(f"{counts[change]} {change}" for change in _MARKS)
    cards = sum(one["cards"] for one in found["offers"])
    refused = sum(one["code"] != "ok" for one in found["offers"])
    verb = "are" if found["applied"] else "would be"
    lines.append(f"{found['operator']}: {total}; {cards} cards {verb} sent new content")
    if refused:
        lines.append(f"{refused} refused" + ("" if found["applied"] else "; nothing was changed"))
    elif counts.total() == counts["unchanged"]:
        lines.append("there is nothing to do")
    elif found["applied"]:
        lines.append("done")
    return Text("\n".join(lines))


def _line(offer: Mapping[str, Any], language: str | None) -> tuple[Any, ...]:
    kind = offer["kind"] if "choose" not in offer else f"{offer['kind']}-{offer['choose']}"
    more = {key: value for key, value in offer.items() if key not in _ELSEWHERE | _FACTS}
    terms = ", ".join(f"{key} {_spell(value)}" for key, value in {**offer.get("terms", {}), **more}.items())
    return (
        offer["offer"],
        _said(offer["names"], language),
        kind,
        " ".join(offer["products"]),
        terms or "-",
        offer["subscriptions"],
        "yes" if offer["withdrawn_at"] is None else f"not since {offer['withdrawn_at']}",
    )


def _said(texts: Mapping[str, str] | None, language: str | None) -> str:
    if not texts:
        return ""
    return texts.get(language or "") or next(iter(texts.values()))


def _changed(each: Mapping[str, Any]) -> str:
    field, before, after = each["field"], each["before"], each["after"]
    if isinstance(before, list) and isinstance(after, list):
        more, less = [one for one in after if one not in before], [one for one in before if one not in after]
        if more or less:
            return f"{field}: " + " ".join([*(f"+{one}" for one in more), *(f"-{one}" for one in less)])
        return f"{field}: in another order"
    if before is None:
        return f"{field}: {_spell(after)}"
    return f"{field}: {_spell(before)} → {'nothing' if after is None else _spell(after)}"


def _spell(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(str(one) for one in value)
    return str(value)
