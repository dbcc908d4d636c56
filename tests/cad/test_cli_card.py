"""What `cad reader` and `cad card` make of readers and cards; the commands themselves run in tests/integration/pcsc."""

from pathlib import Path

import click
import pytest
from rich.console import Console

from cad.cli.cards.options import choose_aid, choose_reader, settings_if_any
from cad.cli.cards.reader import _line
from cad.cli.cards.report import (
    CardDocument,
    CardsDocument,
    EventDocument,
    ReadersDocument,
    card_document,
    event_document,
    reader_document,
)
from cad.cli.cards.view import card_view
from cad.cli.shell.exit_codes import ExitCode, code_of
from cards.application import DEFAULT_AID
from cards.atr import build
from cards.errors import AmbiguousReaderError, CardUnresponsiveError, NoCardError, NoReaderError, PcscError, VpcdError
from cards.readers.state import CardPresence, ReaderEvent, ReaderEventKind, ReaderState
from cards.session import CardSession
from config import load as settings_loader
from emm.notices.content import Fingerprint, Message, Position, build_content
from emm.notices.seal import NoticeSealer
from emm.plan import Right
from tests.support.cards import ADDRESS, CALENDAR, EPOCH, LADDER, NOW, PERIOD, blank_card, emm

PAGE = Path(__file__).resolve().parents[2] / "docs" / "technician.md"
SETTINGS = settings_loader.loads(b"""
[mqtt]
host = "localhost"
[keys]
file = "/nonexistent/master.key"
passphrase_file = "/nonexistent/passphrase"
[ca]
ca_system_id = 0x4ADE
card_aid = "F000000001"
[[networks]]
id = "town"
[[networks.services]]
id = "sport-one"
name = "Sport One"
original_network_id = 1
transport_stream_id = 2
service_id = 3
[[networks.products]]
id = "sports"
product_id = 3
services = ["sport-one"]
""")


def readers(**presences: CardPresence) -> list[ReaderState]:
    return [
        ReaderState(name, presence, build(DEFAULT_AID) if presence is CardPresence.PRESENT else b"")
        for name, presence in presences.items()
    ]


EMPTY, PRESENT, MUTE = CardPresence.EMPTY, CardPresence.PRESENT, CardPresence.MUTE


@pytest.mark.parametrize(
    ("states", "name", "chosen"),
    [
        (readers(one=EMPTY, two=PRESENT), None, "two"),
        (readers(one=EMPTY, two=PRESENT), "one", "one"),
        (readers(Omnikey=EMPTY, Gemalto=PRESENT), "omni", "Omnikey"),
        (readers(one=EMPTY, oneself=EMPTY), "one", "one"),
        ([], None, NoReaderError),
        (readers(one=EMPTY), None, NoCardError),
        (readers(one=EMPTY), "two", NoReaderError),
        (readers(one=MUTE), None, CardUnresponsiveError),
        (readers(one=PRESENT, two=PRESENT), None, AmbiguousReaderError),
        (readers(first=EMPTY, fifth=EMPTY), "fi", AmbiguousReaderError),
    ],
)
def test_the_reader_is_the_one_named_or_the_one_with_a_card(states, name, chosen):
    if isinstance(chosen, str):
        assert choose_reader(states, name) == chosen
        return
    with pytest.raises(chosen) as caught:
        choose_reader(states, name)
    assert caught.value.advice
    assert code_of(caught.value) is ExitCode.CARD


def test_the_application_is_that_of_the_option_else_of_the_settings():
    assert choose_aid(b"12345", SETTINGS) == b"12345"
    assert choose_aid(None, SETTINGS) == bytes.fromhex("F000000001")
    assert choose_aid(None, None) == DEFAULT_AID


def test_settings_are_used_where_there_are_any(tmp_path, monkeypatch):
    monkeypatch.setattr("cad.cli.cards.options.DEFAULT_CONFIG", tmp_path / "absent")
    assert settings_if_any(None) is None
    path = tmp_path / "cad.toml"
    path.write_text(
        '[mqtt]\nhost="x"\n[keys]\nfile="/x"\npassphrase_file="/y"\n[ca]\nca_system_id=1\n[[networks]]\nid="a"\n'
    )
    assert settings_if_any(path).ca.ca_system_id == 1
    monkeypatch.setattr("cad.cli.cards.options.DEFAULT_CONFIG", path)
    assert settings_if_any(None).ca.ca_system_id == 1


def info(*sections: bytes):
    session = CardSession(blank_card().process)
    for section in sections:
        session.process_emm(section)
    return session.read_info()


def shown(document: CardDocument, settings=None) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(card_view(document, settings))
    return capture.get()


def test_a_card_as_a_document(monkeypatch):
    rights = [Right(3, 0), Right(4, NOW + 100), Right(5, 0, NOW + 50)]
    document = card_document(info(*emm(*rights, revision=9)), "reader", NOW + 60, SETTINGS)
    assert (document.number, document.state, document.key_version) == ("123456789015", "active", 1)
    assert (document.versions.unique.period, document.versions.unique.revision) == (PERIOD, 9)
    found = {right.product_id: right for right in document.rights}
    assert {number: right.now for number, right in found.items()} == {3: "open", 4: "later", 5: "ended"}
    assert (found[3].product, found[3].network, found[3].services) == ("sports", "town", ["Sport One"])
    assert (found[4].product, found[4].services) == (None, [])
    assert (found[3].starts_at, found[3].first_epoch) == (None, EPOCH)


def test_a_card_for_a_person(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    text = shown(card_document(info(*emm(Right(3, 0), Right(4, NOW + 100), revision=9)), "r", NOW, SETTINGS), SETTINGS)
    for words in ("1234 5678 9015", "active", f"period {PERIOD}, revision 9", "sent from", "sports (3)", "Sport One",
                  "already", "not yet"):  # fmt: skip
        assert words in text


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ((), ("blank", "no rights", "none yet")),
        (emm(suspended=True), ("suspended", "card reopen")),
        (emm(*[Right(product, 0) for product in range(1, 30)])[1:2], ("waits for", "part 1, 3 of 3")),
        (emm(Right(3, 0), period=CALENDAR.epochs_sent(PERIOD)[0] * 6 + 5), (f"{EPOCH}, {EPOCH + 1}",)),
    ],
)
def test_the_state_of_a_card_in_words(sections, words):
    text = shown(card_document(info(*sections), "reader", NOW, None))
    for each in words:
        assert each in text


def test_the_letters_of_a_card_are_shown(monkeypatch):
    card = CardSession(blank_card().process)
    sealer = NoticeSealer(LADDER)
    notices = [
        Message(False, NOW, NOW + 9, (("fi", "Hyvää iltaa"), ("sv", "God afton"))),
        Message(True, NOW, NOW + 9, (("ru", "Добрый вечер"),)),
        Fingerprint(NOW, NOW + 9, 20, Position.TOP_LEFT, 7),
    ]
    for number, notice in enumerate(notices, 1):
        for section in sealer.to_card(ADDRESS, 1, number, build_content(notice)):
            card.process_emm(section)
    card.letter(1, mark=True)
    document = card_document(card.read_info(), "reader", NOW, None, card.letters())
    assert [(each.number, each.done, each.due, each.notice.kind) for each in document.mailbox] == [
        (1, True, False, "mailbox"),
        (2, False, True, "forced"),
        (3, False, True, "fingerprint"),
    ]
    assert document.mailbox[0].notice.text == {"fi": "Hyvää iltaa", "sv": "God afton"}
    text = shown(document)
    for words in ("read", "fi: Hyvää iltaa", "to be shown now", "Добрый вечер", "fingerprint for 20 s, top-left"):
        assert words in text
    assert not card.mailbox()[1].done, "looking does not mark"


def test_markup_in_a_readers_name_is_shown_as_it_is():
    assert "[red]reader[/red]" in shown(card_document(info(), "[red]reader[/red]", NOW, None))


@pytest.mark.parametrize("kind", ReaderEventKind)
def test_every_event_has_a_line_and_a_document(kind):
    event = ReaderEvent(kind, "reader 1", detail="why", advice="what to do")
    document = event_document(event, NOW, False)
    assert (document.event, document.at) == (kind.value, "2026-11-18T11:06:40Z")
    assert "reader 1" in _line(document)
    assert "why; what to do" in _line(document)


@pytest.mark.parametrize("presence", CardPresence)
def test_every_state_of_a_reader_is_a_document(presence):
    state = readers(one=presence)[0]
    document = reader_document(state, True, ())
    assert (document.features, document.pin_pad) == ([], False)
    assert reader_document(state, True, None).pin_pad is None
    assert document.card == presence.value
    assert document.application is (True if presence is PRESENT else None)


def test_every_error_of_a_reader_or_card_has_the_exit_code_of_the_page():
    for error in (PcscError("x"), VpcdError("x")):
        assert code_of(error) is ExitCode.CARD
    text = PAGE.read_text(encoding="utf-8")
    for code in (ExitCode.OK, ExitCode.USAGE, ExitCode.SETTINGS, ExitCode.KEYS, ExitCode.CARD, ExitCode.INPUT):
        assert f"| {int(code)} |" in text


def test_every_field_of_the_documents_stands_in_the_page():
    text = PAGE.read_text(encoding="utf-8")
    schemas = [model.model_json_schema() for model in (ReadersDocument, EventDocument, CardDocument, CardsDocument)]
    for schema in schemas:
        for definition in [schema, *schema.get("$defs", {}).values()]:
            for field in definition["properties"]:
                assert f"`{field}`" in text, f"{definition['title']}.{field}"
    for kind in ReaderEventKind:
        assert f"`{kind.value}`" in text


def test_the_examples_of_the_page_are_documents():
    blocks = [block.split("```")[0] for block in PAGE.read_text(encoding="utf-8").split("```json\n")[1:]]
    assert len(blocks) == 3
    for model, block in zip((ReadersDocument, EventDocument, CardDocument), blocks, strict=True):
        model.model_validate_json(block)


def test_every_command_and_option_stands_in_the_page():
    from cad.cli.cards.card import group as card
    from cad.cli.cards.reader import group as reader

    text = PAGE.read_text(encoding="utf-8")
    for group in (card, reader):
        for command in group.commands.values():
            assert f"cad {group.name} {command.name}" in text
            for parameter in command.params:
                if isinstance(parameter, click.Option):
                    assert f"`{parameter.opts[0]}" in text, parameter.opts[0]
