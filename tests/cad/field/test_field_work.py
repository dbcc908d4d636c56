"""The laptop's work on a card against a real port: online, offline, conflicts, clocks; the card is a software card."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from rich.console import Console

from cad.cli.cards.verdict_view import verdict_view
from cad.errors import DaemonUnreachableError, NotFoundError, StateError
from cad.field.api import HeadendApi
from cad.field.laptop import Laptop
from cad.field.work import FieldWork
from cad.frame.tls import TlsFilesError
from cad.technicians.documents import SignedExtract
from cad.technicians.errors import ExtractError, NotAllowedError
from cards.application import DEFAULT_AID, CardApplication
from cards.errors import CardRefusedError
from cards.memory.contents import CardKeys, CardMemory
from cards.session import CardSession
from cards.verify import Code
from config.technician_file import TechnicianFile
from emm.keys import KeyLadder
from emm.message import EmmKind
from protocol import card_number, receiver_number
from tests.support.cards import LADDER, NOW, OTHER_LADDER, PERIOD, MemoryStorage, receiver
from tests.support.technician import KAISA, OTHER, FieldHeadend, field_headend

MINE = card_number.spell(KAISA)
Result = TypeVar("Result")


@dataclass
class CardInReader:
    """A software card where the work expects a connection."""

    application: CardApplication
    reader: str = "Reader 0"

    def transmit(self, command: bytes) -> bytes:
        return self.application.process(command)

    def atr(self) -> bytes:
        return bytes.fromhex("3B00")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        yield

    @property
    def memory(self) -> CardMemory:
        return self.application.memory


def put_in(address: int = KAISA, ladder: KeyLadder = LADDER) -> CardInReader:
    memory = CardMemory(address, CardKeys.derive(ladder, address))
    return CardInReader(CardApplication(MemoryStorage(memory)))


class Field:
    """A headend and a technician's laptop. The headend's clock is the laptop's."""

    def __init__(self, headend: FieldHeadend, folder: Path) -> None:
        self.headend = headend
        self.folder = folder
        self.laptop = Laptop(folder / "laptop")

    def file(self, who: str = "anna", url: str | None = None) -> TechnicianFile:
        self.headend.authority.context(who)
        pki = self.headend.authority.folder
        return TechnicianFile(
            headend=url or self.headend.url,
            ca_file=pki / "ca.pem",
            cert_file=pki / f"{who}.pem",
            key_file=pki / f"{who}.key",
            state_dir=self.folder / "laptop",
        )

    async def do(self, job: Callable[[FieldWork], Result], who: str = "anna", url: str | None = None) -> Result:
        """Run a piece of work in a thread, as the laptop does: the port is served by this loop."""
        api = HeadendApi(self.file(who, url))
        work = FieldWork(api, self.laptop, self.headend.clock, DEFAULT_AID)  # type: ignore[arg-type]
        try:
            return await asyncio.to_thread(job, work)
        finally:
            api.close()

    async def offline(self, job: Callable[[FieldWork], Result]) -> Result:
        work = FieldWork(None, self.laptop, self.headend.clock, DEFAULT_AID)  # type: ignore[arg-type]
        return await asyncio.to_thread(job, work)

    async def fetch(self, who: str = "anna") -> SignedExtract:
        api = HeadendApi(self.file(who))
        try:
            me = await asyncio.to_thread(api.me)
            signed = await asyncio.to_thread(api.extract, None)
        finally:
            api.close()
        self.laptop.keep_extract(signed, me.extract_key, self.headend.clock.now())
        return signed


@pytest.fixture
async def field(tmp_path: Path) -> AsyncIterator[Field]:
    async with field_headend(tmp_path) as headend:
        await headend.set_up(KAISA)
        headend.clock.set(NOW + 3600)
        yield Field(headend, tmp_path)


@pytest.mark.slow
async def test_blank_then_refreshed_then_in_order_and_all_of_it_in_the_audit(field: Field) -> None:
    card = put_in()
    blank = await field.do(lambda work: work.verify(card))
    assert (blank.verdict, blank.passed, blank.genuine, blank.source) == (Code.BLANK, False, True, "headend")
    assert [(one.product, one.on_card, one.agrees) for one in blank.rights] == [("sport", None, False)]
    mended = await field.do(lambda work: work.refresh(card))
    assert (mended.verdict, mended.passed) == (Code.OK, True)
    assert [(one.services, one.agrees, one.open_now) for one in mended.rights] == [(["Sport 1"], True, True)]
    assert "the newest" in str(mended.last_emm)
    answers = await field.do(lambda work: work.hand_in())
    assert [one.conflict for one in answers.visits] == [None, None]
    acts = [(one["who"], one["act"], one["card"], one["reader"]) for one in await field.headend.audit()]
    assert ("anna", "emm", MINE, "Reader 0") in acts
    assert acts[-2:] == [("anna", "verify", MINE, "Reader 0"), ("anna", "refresh", MINE, "Reader 0")]


@pytest.mark.slow
async def test_a_copy_of_a_card_fails_with_and_without_network(field: Field) -> None:
    copy = put_in(ladder=OTHER_LADDER)
    assert (await field.do(lambda work: work.verify(copy))).verdict is Code.NOT_GENUINE
    await field.fetch()
    for _ in range(5):
        assert (await field.offline(lambda work: work.verify(copy))).verdict is Code.NOT_GENUINE
    with pytest.raises(CardRefusedError, match="not sealed under a key of this card"):
        await field.do(lambda work: work.refresh(copy))


@pytest.mark.slow
async def test_other_cards_are_told_apart(field: Field) -> None:
    await field.headend.set_up(OTHER, product="film", operator="other")
    for address in (OTHER, KAISA + 5):
        assert (await field.do(lambda work, at=address: work.verify(put_in(at)))).verdict is Code.UNKNOWN_CARD
    foreign = CardInReader(CardApplication(MemoryStorage(), bytes.fromhex("F0FFFFFFFF")))
    report = await field.do(lambda work: work.verify(foreign))
    assert (report.verdict, report.number) == (Code.WRONG_APPLICATION, None)
    assert len(field.laptop.waiting()) == 2, "what has no number cannot be recorded by number"


@pytest.mark.slow
async def test_suspension_and_its_reason_are_shown(field: Field) -> None:
    card = put_in()
    await field.headend.order("card", "suspend", card=MINE, reason="unpaid")
    await field.do(lambda work: work.refresh(card))
    report = await field.do(lambda work: work.verify(card))
    assert (report.verdict, report.state, report.reason) == (Code.SUSPENDED, "suspended", "unpaid")


@pytest.mark.slow
@pytest.mark.parametrize("live", [True, False], ids=["with network", "by extract"])
async def test_pairing_and_access_are_shown_side_by_side_and_mended(field: Field, live: bool) -> None:
    card, number = put_in(), receiver_number.spell(receiver(1).number)
    work_on = field.do if live else field.offline
    await field.do(lambda work: work.refresh(card))
    await field.headend.order("card", "pair", card=MINE, receiver=number)
    await field.headend.order("card", "parental", card=MINE, level=12)
    await field.headend.order("card", "pin-reset", card=MINE)
    field.headend.clock.set(NOW + 2 * 3600)
    if not live:
        await field.fetch()
    report = await work_on(lambda work: work.verify(card))
    assert report.verdict is Code.PAIRING_DIFFERS
    assert [(one.name, one.on_card, one.ordered, one.agrees) for one in report.traits] == [
        ("pairing", "any receiver", f"receiver {number}", False),
        ("parental level", "none", "PIN from age 12", False),
        ("PIN reset", "not heard yet", "taken", False),
    ]
    shown = io.StringIO()
    Console(file=shown, width=200).print(verdict_view(report))
    assert f"any receiver, but ordered: receiver {number}" in shown.getvalue()
    mended = await work_on(lambda work: work.refresh(card))
    assert (mended.verdict, all(one.agrees for one in mended.traits)) == (Code.OK, True)
    assert card.memory.traits.receiver == receiver(1).number


@pytest.mark.slow
async def test_without_network_the_extract_does_the_same_and_the_queue_is_sent_later(field: Field) -> None:
    await field.fetch()
    card = put_in()
    dead = "https://localhost:1"
    report = await field.do(lambda work: work.refresh(card), url=dead)
    assert (report.source, report.verdict, report.genuine) == ("extract", Code.OK, True)
    assert card.memory.tracks[EmmKind.UNIQUE].held is not None
    with pytest.raises(DaemonUnreachableError):
        await field.do(lambda work: work.hand_in(), url=dead)
    assert len(field.laptop.waiting()) == 1, "nothing is lost while the headend is away"
    await field.headend.order("subscription", "end", subscription=f"s-{KAISA}")
    answer = await field.do(lambda work: work.hand_in())
    assert [one.status for one in answer.visits] == ["recorded"]
    assert "the ledger is at" in str(answer.visits[0].conflict)
    assert field.laptop.waiting() == []
    view = await field.headend.ledger.card_view(KAISA)
    assert view is not None
    assert view.rights == (), "the ledger stands as ordered"


@pytest.mark.slow
async def test_a_card_newer_than_the_extract_passes_offline_and_fails_online_only_if_it_must(field: Field) -> None:
    await field.fetch()
    card = put_in()
    await field.headend.order("subscription", "end", subscription=f"s-{KAISA}")
    await field.do(lambda work: work.refresh(card))
    assert (await field.offline(lambda work: work.verify(card))).verdict is Code.NEWER_THAN_EXTRACT
    assert (await field.do(lambda work: work.verify(card))).verdict is Code.NOTHING_ORDERED


@pytest.mark.slow
async def test_an_extract_expires_and_a_clock_set_back_does_not_help(field: Field) -> None:
    await field.fetch()
    made = field.headend.clock.now()
    field.headend.clock.set(made + 7 * 86_400 - 1)
    assert (await field.offline(lambda work: work.verify(put_in()))).source == "extract"
    field.headend.clock.set(made + 7 * 86_400)
    with pytest.raises(ExtractError, match="has expired"):
        await field.offline(lambda work: work.verify(put_in()))
    field.headend.clock.set(made + 60)
    with pytest.raises(ExtractError, match="clock is behind"):
        await field.offline(lambda work: work.verify(put_in()))


@pytest.mark.slow
async def test_an_extract_changed_by_one_byte_or_of_another_headend_is_refused(field: Field) -> None:
    await field.fetch()
    path = field.folder / "laptop" / "extract.json"
    whole = json.loads(path.read_text())
    payload = whole["payload"]
    path.write_text(json.dumps(whole | {"payload": ("A" if payload[0] != "A" else "B") + payload[1:]}))
    with pytest.raises(ExtractError, match="not signed by this headend"):
        field.laptop.extract(field.headend.clock.now())
    path.write_text("{}")
    with pytest.raises(ExtractError, match="damaged"):
        field.laptop.extract(field.headend.clock.now())
    with pytest.raises(ExtractError, match="not signed by this headend"):
        field.laptop.keep_extract(SignedExtract.model_validate(whole), "11" * 32, NOW)


@pytest.mark.slow
async def test_who_has_the_extract_does_not_have_the_answers_nor_any_key(field: Field) -> None:
    await field.fetch()
    extract = field.laptop.extract(field.headend.clock.now())
    text = extract.model_dump_json()
    card = put_in()
    for prepared in extract.cards[0].challenges:
        assert CardSession(card.transmit).authenticate(bytes.fromhex(prepared.challenge)).hex() not in text
    key = LADDER.card_key(KAISA, 1)
    product = LADDER.product_key(7, PERIOD // 6)
    assert not any(secret.hex() in text for secret in (key[:16], key[16:], product))
    assert "customer" not in text, "who the subscriber is, a technician's laptop need not know"


@pytest.mark.slow
async def test_each_prepared_challenge_is_used_before_one_is_used_again(field: Field) -> None:
    await field.fetch()
    seen = [field.laptop.next_challenge(MINE, 4) for _ in range(6)]
    assert seen == [0, 1, 2, 3, 0, 1]


@pytest.mark.slow
async def test_a_card_that_the_extract_does_not_hold_is_not_called_bad(field: Field) -> None:
    await field.fetch()
    with pytest.raises(NotFoundError, match="does not hold card"):
        await field.offline(lambda work: work.verify(put_in(KAISA + 9)))


async def test_without_network_and_without_extract_it_says_both(field: Field) -> None:
    with pytest.raises(DaemonUnreachableError, match=r"cannot be reached.*; and no extract was taken along"):
        await field.do(lambda work: work.verify(put_in()), url="https://localhost:1")


@pytest.mark.slow
async def test_read_only_people_are_told_that_they_may_not_prove_or_write(field: Field) -> None:
    with pytest.raises(NotAllowedError, match="role read-only"):
        await field.do(lambda work: work.verify(put_in()), who="ros")
    with pytest.raises(NotAllowedError, match="role read-only"):
        await field.do(lambda work: work.refresh(put_in()), who="ros")


@pytest.mark.slow
async def test_a_card_of_an_older_specification_cannot_be_shown_to_be_genuine(field: Field) -> None:
    card = put_in()

    class Old(CardInReader):
        def transmit(self, command: bytes) -> bytes:
            return b"\x6d\x00" if command[1] == 0x88 else super().transmit(command)

    report = await field.do(lambda work: work.verify(Old(card.application)))
    assert (report.verdict, report.genuine) == (Code.UNPROVEN, None)


def test_files_of_the_laptop_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    settings = TechnicianFile(
        headend="https://x", ca_file=tmp_path / "ca", cert_file=tmp_path / "c", key_file=tmp_path / "k"
    )
    with pytest.raises(TlsFilesError, match=r"ca_file .*No such file"):
        HeadendApi(settings)
    (tmp_path / "laptop").mkdir()
    (tmp_path / "laptop" / "visits.jsonl").write_text("nonsense\n")
    with pytest.raises(StateError, match=r"visits\.jsonl is damaged"):
        Laptop(tmp_path / "laptop").waiting()
    (tmp_path / "laptop" / "laptop.json").write_text("[]")
    with pytest.raises(StateError, match=r"laptop\.json is damaged"):
        Laptop(tmp_path / "laptop").next_challenge(MINE, 4)
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot be made"):
        Laptop(tmp_path / "file" / "below")


def test_what_the_laptop_keeps_is_for_its_owner_only(tmp_path: Path) -> None:
    laptop = Laptop(tmp_path / "laptop")
    facts: dict[str, Any] = {"at": NOW, "card": MINE, "reader": "R", "verdict": "ok", "passed": True}
    assert [laptop.record(act="verify", **facts).seq for _ in range(3)] == [1, 2, 3]
    assert (tmp_path / "laptop").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "laptop").iterdir()} == {0o600}
