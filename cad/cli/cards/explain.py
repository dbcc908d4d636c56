"""`cad card explain`: a status word in words."""

import click

from cad.cli.shell.options import json_option


@click.command("explain")
@click.argument("word", metavar="SW")
@json_option
def command(word: str, as_json: bool) -> None:
    """Say what the status word SW (four hexadecimal digits, such as 9201) means, and what to do about it."""
    from cad.cli.shell.output import console, show_json, table

    try:
        sw = int(word.removeprefix("0x").replace(" ", ""), 16)
    except ValueError:
        sw = -1
    if not 0x6000 <= sw <= 0x9FFF or sw >> 12 not in (6, 9):
        raise click.BadParameter(
            "a status word is four hexadecimal digits, 6xxx or 9xxx, such as 9201", param_hint="SW"
        )
    found = _meanings(sw)
    if as_json:
        show_json({"word": f"{sw:04X}", "meanings": found})
        return
    rows = [(one["of"], one["name"] or "-", one["meaning"], one["advice"] or "-") for one in found]
    console().print(table(("of", "name", "meaning", "what to do"), rows, f"status word {sw:04X}"))


def _meanings(sw: int) -> list[dict[str, str | None]]:
    from cards import status_word
    from cards.globalplatform import status_word as gp_status_word

    if status_word.is_more_data(sw):
        more = sw & 0xFF or 256
        return [_meaning("any card", None, f"done; {more} more bytes of the answer wait", "fetch them: GET RESPONSE")]
    if status_word.is_wrong_le(sw):
        right = sw & 0xFF or 256
        return [_meaning("any card", None, f"Le does not fit: {right} is right", "send the command again with this Le")]
    if sw >> 4 == 0x63C:
        tries = sw & 0x0F
        return [_meaning("any card", None, f"wrong; {tries} tries are left", "do not try again before you know why")]
    found = []
    if sw in status_word.EXPLANATIONS:
        one = status_word.StatusWord(sw)
        explained = status_word.explain(sw)
        found.append(_meaning("the card's application", one.name, explained.meaning, explained.advice))
    if sw in gp_status_word.EXPLANATIONS:
        two = gp_status_word.GpStatusWord(sw)
        explained = gp_status_word.explain(sw)
        found.append(_meaning("the card manager", two.name, explained.meaning, explained.advice))
    explained = status_word.explain(sw)
    return found or [_meaning("another card", None, explained.meaning, explained.advice)]


def _meaning(of: str, name: str | None, meaning: str, advice: str) -> dict[str, str | None]:
    return {"of": of, "name": name, "meaning": meaning, "advice": advice or None}
