"""Messages on the air: derived from the ledger, for the cards they are for, within their share, again after a loss."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cad.air.notice_log import Notice
from cad.air.notices import LOOK_AGAIN_S, RETRY_S, TELL_S, Emm, NoticeBoard, emms_to_cards
from cad.frame.metrics import Metrics
from cad.ledger.errors import LedgerUnavailable
from cad.ledger.ledger import Ledger
from cad.ledger.model import Grants, OutboxMessage
from cad.ledger.tables.messages import OnAirMessage
from config.settings import Settings
from emm.keys import KeyLadder, LocalMasterKey
from emm.message import EmmKind, parse_emm
from emm.notices.content import Message, build_content
from emm.notices.seal import NoticeSealer, open_notice
from emm.rotation.notice_forecast import NoticeForecast
from protocol.card_number import spell
from protocol.portal.fields import spell_moment as _rfc3339
from tests.cad.air.test_broadcast import Setting
from tests.support.clock import ManualClock
from tests.support.ledgers import order

LADDER = KeyLadder(LocalMasterKey(bytes(32)))
SEALER = NoticeSealer(LADDER)
CONTENT = build_content(Message(False, 0, 4_000_000_000, (("en", "hello"),)))
LONG = build_content(Message(False, 0, 4_000_000_000, (("en", "hello " * 60),)))


def message(**changed: Any) -> OnAirMessage:
    told: dict[str, Any] = {"operator": "a", "message": "m", "number": 7, "content": CONTENT}
    told |= {"starts_at": 0, "ends_at": 4_000_000_000, "repeat_s": 60, "changed_at": 0.0, "cards": None, "offer_id": 1}
    return OnAirMessage(**(told | changed))


def test_cards_with_an_offer_are_addressed_by_the_group_and_by_their_key_version() -> None:
    cards = [(1, 1), (5, 2), (9, 1), (256, 1), (700, 1)]
    emms = [parse_emm(sections[0]) for sections in emms_to_cards(message(), cards, SEALER)]
    found = [
        (emm.header.address, emm.header.key_version, open_notice(emm, LADDER.group_key(*_of(emm))).part) for emm in emms
    ]
    said = [(group, version, [a for a in range(256) if part.addresses(a)]) for group, version, part in found]
    assert said == [(0, 1, [1, 9]), (0, 2, [5]), (1, 1, [0]), (2, 1, [700 - 512])]


def test_cards_that_were_named_are_addressed_singly() -> None:
    emms = emms_to_cards(message(cards=(1, 5), offer_id=None), [(1, 1), (5, 2)], SEALER)
    headers = [parse_emm(sections[0]).header for sections in emms]
    assert [(one.kind, one.address, one.key_version) for one in headers] == [
        (EmmKind.UNIQUE, 1, 1),
        (EmmKind.UNIQUE, 5, 2),
    ]


def _of(emm: Any) -> tuple[int, int]:
    return emm.header.address, emm.header.key_version


# --- the channel


async def test_a_notice_goes_out_beside_the_cards_and_is_counted() -> None:
    setting = Setting()
    (sections,) = SEALER.to_ranges([(0, 9)], 1, 7, LONG)
    async with setting.running():
        setting.link.up(100_000)
        setting.change(5)
        setting.channel.set_notices({7: Notice(60.0, [sections])})
        assert setting.channel.carousel_bps == pytest.approx(95_000)
        await setting.pass_time(2)
        sent = [data for _, data in setting.link.sent]
        assert [sent.count(section) for section in sections] == [1] * len(sections)
        assert setting.sample("cad_sent_emms_total", multiplex="mux-1", ring="notice") == 1
        times, last_at = setting.channel.notice_facts(7)
        assert times == 1
        assert last_at is not None
        setting.channel.set_notices({})
        assert setting.channel.carousel_bps == 100_000
        assert setting.channel.notice_facts(7) == (0, None)


@pytest.mark.slow
async def test_notices_never_take_more_than_their_share_nor_the_rate_more_than_allocated() -> None:
    setting = Setting()
    emms = [SEALER.to_card(address, 1, 7, LONG) for address in range(300)]
    async with setting.running():
        setting.link.up(100_000)
        for address in range(20):
            setting.change(address)
        setting.channel.set_notices({7: Notice(30.0, emms)})
        await setting.pass_time(4)
        notices = [data for _, data in setting.link.sent if parse_emm(data).header.format == 2]
        bits = 8 * sum(map(len, notices)) * 188 / 183
        assert 0.7 * 20_000 < bits < 1.1 * 20_000 + 2_200
        assert setting.channel.sent_bits <= 4.1 * 100_000
        seconds = [at for at, _ in setting.link.sent]
        assert len({parse_emm(data).header.address for _, data in setting.link.sent if data not in notices}) == 20
        assert seconds[-1] - seconds[0] > 3


async def test_notices_give_way_while_changes_are_short_of_bandwidth() -> None:
    setting = Setting()
    async with setting.running():
        setting.link.up(20_000)
        setting.channel.set_notices({7: Notice(30.0, [SEALER.to_card(9, 1, 7, CONTENT)])})
        assert setting.channel.notices.share == 0.05
        for address in range(2_000):
            setting.change(address)
        setting.channel.yield_share()
        assert setting.channel.notices.share == pytest.approx(0.005)
        assert setting.channel.carousel.shortfalls(setting.channel.carousel_bps)


async def test_what_is_over_does_not_go_out_from_a_queue_that_stood_still() -> None:
    setting = Setting()
    async with setting.running():
        setting.link.up(100_000)
        setting.channel.set_notices({7: Notice(30.0, [SEALER.to_card(address, 1, 7, LONG) for address in (1, 2)])})
        for address in range(20):
            setting.change(address)
        await setting.clock.advance(0.01)
        setting.link.up(0)
        sent = len(setting.link.sent)
        setting.channel.set_notices({})
        await setting.clock.advance(10)
        setting.link.up(100_000)
        await setting.clock.advance(2)
        late = [parse_emm(data).header.format for _, data in setting.link.sent[sent:]]
        assert len(late) >= 15
        assert 2 not in late


async def test_a_lost_link_has_notices_sent_again() -> None:
    setting = Setting()
    (section,) = SEALER.to_card(9, 1, 7, CONTENT)
    async with setting.running():
        setting.link.up(100_000)
        setting.channel.set_notices({7: Notice(3_600.0, [(section,)])})
        await setting.pass_time(1)
        setting.link.down()
        setting.link.up(100_000)
        await setting.pass_time(2)
        assert [data for _, data in setting.link.sent].count(section) == 2


async def test_when_all_of_a_notice_had_gone_out_is_told_once_it_has_and_anew_when_it_is_for_more() -> None:
    setting = Setting()
    emms = [SEALER.to_card(address, 1, 7, LONG) for address in range(3)]
    async with setting.running():
        setting.channel.set_notices({7: Notice(3_600.0, emms[:2])})
        setting.link.up(100_000)
        while len(setting.link.sent) < len(emms[0]) + len(emms[1]):
            assert setting.channel.notice_whole_at(7) is None
            await setting.pass_time(0.01)
        first = setting.channel.notice_whole_at(7)
        assert first == pytest.approx(setting.clock.now(), abs=0.02)
        setting.channel.set_notices({7: Notice(60.0, emms[:2])})
        await setting.pass_time(1)
        assert setting.channel.notice_whole_at(7) == first, "another spacing: nothing more is to be sent"
        setting.channel.set_notices({7: Notice(60.0, emms)})
        assert setting.channel.notice_whole_at(7) is None
        await setting.pass_time(2)
        assert setting.channel.notice_whole_at(7) == pytest.approx(setting.link.sent[-1][0] + 1_800_000_000, abs=0.1)
        setting.channel.set_notices({})
        assert setting.channel.notice_whole_at(7) is None


async def test_what_was_its_end_is_not_when_it_is_for_more_before_the_link_has_taken_it() -> None:
    setting = Setting()
    emms = [SEALER.to_card(address, 1, 7, CONTENT) for address in range(2)]
    taken, take = asyncio.Event(), setting.link.send

    async def wait_and_send(datagrams: Sequence[bytes]) -> None:
        await taken.wait()
        await take(datagrams)

    setting.link.send = wait_and_send  # type: ignore[method-assign]
    async with setting.running():
        setting.channel.set_notices({7: Notice(3_600.0, emms[:1])})
        setting.link.up(20_000)
        await setting.pass_time(0.1)
        setting.channel.set_notices({7: Notice(3_600.0, emms)})
        taken.set()
        await setting.pass_time(0.01)
        assert ([data for _, data in setting.link.sent], setting.channel.notice_whole_at(7)) == ([emms[0][0]], None)
        await setting.pass_time(3)
        assert len(setting.link.sent) == 2
        assert setting.channel.notice_whole_at(7) is not None


async def test_what_the_link_did_not_take_has_not_gone_out() -> None:
    setting = Setting()
    async with setting.running():
        setting.link.breaks = True
        setting.channel.set_notices({7: Notice(3_600.0, [SEALER.to_card(9, 1, 7, CONTENT)])})
        setting.link.up(100_000)
        await setting.pass_time(1)
        assert (setting.link.sent, setting.channel.notice_whole_at(7)) == ([], None)
        assert setting.channel.notice_forecast().rate_bps == 0
        setting.link.up(100_000)
        await setting.pass_time(1)
        assert setting.channel.notice_whole_at(7) is not None


# --- the board


class Outlet:
    multiplex = "mux-1"

    def __init__(self) -> None:
        self.notices: Mapping[int, Notice] = {}
        self.whole: dict[int, float] = {}

    def set_notices(self, notices: Mapping[int, Notice]) -> None:
        self.notices = notices

    def notice_whole_at(self, number: int) -> float | None:
        return self.whole.get(number)

    def notice_forecast(self) -> NoticeForecast:
        return NoticeForecast(1_000.0, (0, 0), 1.0)

    def notice_bits(self, sections: Sequence[int]) -> int:
        return 8 * sum(sections)

    def notice_facts(self, number: int) -> tuple[int, float | None]:
        return 3, 0.0


class Network:
    cards = 10

    def __init__(self, name: str) -> None:
        self.id = name
        self.channels = [Outlet()]

    def count_groups(self, ranges: Sequence[tuple[int, int]]) -> int:
        return len(ranges)

    def key_versions(self) -> Sequence[int]:
        return [1, 2]


SETTINGS = Settings.model_validate(
    {
        "mqtt": {"host": "127.0.0.1"},
        "keys": {"passphrase_file": "/tmp/p"},
        "ca": {"ca_system_id": 0x4AD1},
        "networks": [
            {"id": "net", "regions": [{"id": "coast", "name": "Coast", "number": 7}]},
            {"id": "far"},
        ],
        "operators": [
            {"id": "a", "network": "net", "card_ranges": [{"first": spell(0), "last": spell(9)}]},
            {"id": "b", "network": "far", "card_ranges": [{"first": spell(10), "last": spell(19)}]},
        ],
    }
)


class Board:
    """A board over a ledger on disk, with one outlet in each of two networks."""

    def __init__(self, ledger: Ledger, clock: ManualClock) -> None:
        self.ledger = ledger
        self.clock = clock
        self.metrics = Metrics()
        self.networks = {"net": Network("net"), "far": Network("far")}
        self.board = NoticeBoard(lambda: self.networks, lambda: SETTINGS, ledger, SEALER, clock, self.metrics)
        self._ids = 0
        self.published: list[OutboxMessage] = []
        ledger.on_messages = self.published.extend

    async def put(self, operator: str = "a", name: str = "m", **body: Any) -> None:
        self._ids += 1
        told = {"message": name, "rev": self._ids, "to": {"all": True}, "text": {"en": "hello"}} | body
        (outcome,) = await self.ledger.commit([order(operator, "message", "put", f"c-{self._ids}", **told)])
        assert (outcome.code, outcome.messages) == ("ok", True), outcome.reply

    def sent(self, network: str = "net") -> dict[int, int]:
        """By number how many EMMs are sent."""
        return {number: len(one.emms) for number, one in self.networks[network].channels[0].notices.items()}

    async def place(self, card: int, region: str | None) -> None:
        """Have a card of operator a stand in a region."""
        self._ids += 1
        told = {"card": card, "rev": self._ids}
        orders = [order("a", "card", "assign", f"a-{self._ids}", subscriber="anna", **told)]
        told["rev"] = self._ids = self._ids + 1
        orders.append(order("a", "card", "region", f"r-{self._ids}", region=region, **told))
        assert [outcome.code for outcome in await self.ledger.commit(orders)] == ["ok", "ok"]

    def members(self) -> list[list[int]]:
        """The cards of each group EMM that is sent in the network of operator a."""
        headers = [(parse_emm(sections[0]), _of(parse_emm(sections[0]))) for sections in self.emms()]
        parts = [open_notice(emm, LADDER.group_key(*whose)).part for emm, whose in headers]
        return [[address for address in range(256) if part.addresses(address)] for part in parts]

    def emms(self) -> list[Emm]:
        return [emm for one in self.networks["net"].channels[0].notices.values() for emm in one.emms]

    def active(self, operator: str) -> float | None:
        return self.metrics.registry.get_sample_value("cad_messages_active", {"operator": operator})


@pytest.fixture
async def board(tmp_path: Path) -> AsyncIterator[Board]:
    clock = ManualClock()
    ledger = await Ledger.open(
        tmp_path / "ledger.db", audit_key=bytes(32), grants=Grants.from_settings(SETTINGS), clock=clock
    )
    yield Board(ledger, clock)
    await ledger.close()


async def test_each_network_sends_what_is_its_operators(board: Board) -> None:
    await board.put()
    await board.put("b", repeat_s=60)
    assert await board.board.refresh() == LOOK_AGAIN_S
    assert (board.sent("net"), board.sent("far")) == ({1: 2}, {2: 2}), "for each key version in the network"
    assert board.networks["far"].channels[0].notices[2].repeat_s == 60
    assert (board.active("a"), board.active("b")) == (1, 1)
    (first, second) = board.board.facts()
    assert (first["operator"], first["to"], first["emms"], first["on_air"]) == ("a", "all cards", 2, True)
    assert second["multiplexes"] == [{"multiplex": "mux-1", "emms_sent": 3, "last_sent_at": "1970-01-01T00:00:00Z"}]


async def test_cards_that_move_into_a_region_or_out_of_it_are_followed(board: Board) -> None:
    await board.place(0, "coast")
    await board.put(to={"region": "coast"})
    pause_s = await board.board.refresh()
    assert board.members() == [[0]]
    (told,) = board.board.facts()
    assert (told["to"], told["emms"]) == ("cards in region coast", 1)
    await board.place(0, None)
    await board.place(3, "coast")
    await board.clock.advance(pause_s)
    assert pause_s == LOOK_AGAIN_S
    await board.board.refresh()
    assert board.members() == [[3]]
    await board.place(3, None)
    await board.board.refresh()
    assert board.members() == []


@pytest.mark.slow
async def test_it_looks_again_when_the_next_message_begins_or_ends(board: Board) -> None:
    now = int(board.clock.now())
    await board.put(starts_at=_rfc3339(now + 100), ends_at=_rfc3339(now + 150))
    pause_s = await board.board.refresh()
    assert pause_s == pytest.approx(now + 100 - board.clock.now())
    assert (board.sent(), board.active("a")) == ({}, 0)
    assert [one["on_air"] for one in board.board.facts()] == [False]
    await board.clock.advance(pause_s)
    assert await board.board.refresh() == pytest.approx(50, abs=1)
    assert board.sent() == {1: 2}
    await board.clock.advance(50)
    await board.board.refresh()
    assert (board.sent(), board.board.facts(), board.active("a")) == ({}, [], 0)


async def test_the_task_wakes_by_a_commit_and_goes_on_after_a_fault_of_the_ledger(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = asyncio.create_task(board.board.run())
    try:
        await _until(lambda: board.active("a") == 0)
        await board.put()
        board.board.wake()
        await _until(lambda: board.sent() == {1: 2})
        whole = board.ledger.messages

        asked: list[Sequence[str]] = []

        async def broken(operators: Sequence[str]) -> list[OnAirMessage]:
            asked.append(operators)
            raise LedgerUnavailable("the disk is full", "make room")

        monkeypatch.setattr(board.ledger, "messages", broken)
        await board.put(name="second")
        board.board.wake()
        await _until(lambda: asked)
        monkeypatch.setattr(board.ledger, "messages", whole)
        await board.clock.settle()
        await board.clock.advance(RETRY_S)
        await _until(lambda: board.sent() == {1: 2, 2: 2})
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def whole_of(board: Board) -> list[tuple[str, dict[str, Any]]]:
    """Event id and payload of each `on-air` of a message that went into the outbox."""
    return [
        (one.event_id, json.loads(one.payload)) for one in board.published if one.topic == "cad/v1/a/evt/message/on-air"
    ]


async def test_a_message_that_was_sent_to_all_is_told_once(board: Board) -> None:
    await board.put(name="m-1")
    await board.put(name="m-2")
    task = asyncio.create_task(board.board.tell())
    try:
        await board.board.refresh()
        await board.clock.advance(TELL_S)
        assert whole_of(board) == [], "nothing had gone out"
        outlet = board.networks["net"].channels[0]
        outlet.whole[1] = board.clock.now() - 0.5
        at = _rfc3339(int(board.clock.now() - 0.5))
        await board.clock.advance(TELL_S)
        await _until(lambda: whole_of(board))
        ((event_id, event),) = whole_of(board)
        assert event == {"message": "m-1", "rev": 1, "at": at}
        assert event_id.endswith("-message.1.1")
        assert [one["sent_to_all_at"] for one in board.board.facts()] == [at, None]
        await board.clock.advance(5 * TELL_S)
        await board.board.refresh()
        assert [one.late for one in outlet.notices.values()] == [True, False]
        await board.clock.advance(5 * TELL_S)
        assert len(whole_of(board)) == 1
        await board.put(name="m-1", text={"en": "other"})
        await board.board.refresh()
        outlet.whole[3] = board.clock.now()
        await board.clock.advance(TELL_S)
        await _until(lambda: len(whole_of(board)) == 2)
        assert whole_of(board)[1][1]["rev"] == 3
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_was_changed_meanwhile_is_not_told_and_a_fault_of_the_ledger_is_outlasted(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    await board.put(name="m-1")
    await board.board.refresh()
    outlet = board.networks["net"].channels[0]
    outlet.whole[1] = board.clock.now()
    await board.put(name="m-1", to={"region": "coast"})
    await board.put(name="m-2")
    task = asyncio.create_task(board.board.tell())
    perform, broken = board.ledger.perform, [True]

    async def unsteady(act: Any) -> None:
        if broken.pop():
            raise LedgerUnavailable("the disk is full", "make room")
        broken.append(False)
        await perform(act)

    monkeypatch.setattr(board.ledger, "perform", unsteady)
    try:
        await board.clock.advance(TELL_S)
        assert broken == []
        broken.append(False)
        await board.clock.advance(TELL_S)
        await board.board.refresh()
        outlet.whole[2] = board.clock.now()
        await board.clock.advance(TELL_S)
        await _until(lambda: whole_of(board))
        assert [event["message"] for _, event in whole_of(board)] == ["m-2"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _until(found: Any) -> None:
    async with asyncio.timeout(10):
        while not found():
            await asyncio.sleep(0.01)
