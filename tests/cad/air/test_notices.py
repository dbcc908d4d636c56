"""Messages on the air: derived from the ledger, for the cards they are for, within their share, again after a loss."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cad.air.notices import LOOK_AGAIN_S, RETRY_S, Emm, NoticeBoard, emms_to_cards
from cad.frame.metrics import Metrics
from cad.ledger.errors import LedgerUnavailable
from cad.ledger.ledger import Ledger
from cad.ledger.model import Grants
from cad.ledger.tables.messages import OnAirMessage
from config.settings import Settings
from emm.keys import KeyLadder, LocalMasterKey
from emm.message import EmmKind, parse_emm
from emm.notices.content import Message, build_content
from emm.notices.seal import NoticeSealer, open_notice
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
        setting.channel.set_notices({7: (60.0, [sections])})
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
        setting.channel.set_notices({7: (30.0, emms)})
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
        setting.channel.set_notices({7: (30.0, [SEALER.to_card(9, 1, 7, CONTENT)])})
        assert setting.channel.notices.share == 0.05
        for address in range(2_000):
            setting.change(address)
        setting.channel.yield_share()
        assert setting.channel.notices.share == pytest.approx(0.005)
        assert setting.channel.carousel.shortfalls(setting.channel.carousel_bps)


async def test_a_lost_link_has_notices_sent_again() -> None:
    setting = Setting()
    (section,) = SEALER.to_card(9, 1, 7, CONTENT)
    async with setting.running():
        setting.link.up(100_000)
        setting.channel.set_notices({7: (3_600.0, [(section,)])})
        await setting.pass_time(1)
        setting.link.down()
        setting.link.up(100_000)
        await setting.pass_time(2)
        assert [data for _, data in setting.link.sent].count(section) == 2


# --- the board


class Outlet:
    multiplex = "mux-1"

    def __init__(self) -> None:
        self.notices: Mapping[int, tuple[float, Sequence[Emm]]] = {}

    def set_notices(self, notices: Mapping[int, tuple[float, Sequence[Emm]]]) -> None:
        self.notices = notices

    def notice_facts(self, number: int) -> tuple[int, float | None]:
        return 3, 0.0


class Network:
    def __init__(self) -> None:
        self.channels = [Outlet()]

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
        self.networks = {"net": Network(), "far": Network()}
        self.board = NoticeBoard(lambda: self.networks, lambda: SETTINGS, ledger, SEALER, clock, self.metrics)
        self._ids = 0

    async def put(self, operator: str = "a", name: str = "m", **body: Any) -> None:
        self._ids += 1
        told = {"message": name, "rev": self._ids, "to": {"all": True}, "text": {"en": "hello"}} | body
        (outcome,) = await self.ledger.commit([order(operator, "message", "put", f"c-{self._ids}", **told)])
        assert (outcome.code, outcome.messages) == ("ok", True), outcome.reply

    def sent(self, network: str = "net") -> dict[int, int]:
        """By number how many EMMs are sent."""
        return {number: len(emms) for number, (_, emms) in self.networks[network].channels[0].notices.items()}

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
        return [emm for _, emms in self.networks["net"].channels[0].notices.values() for emm in emms]

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
    assert board.networks["far"].channels[0].notices[2][0] == 60
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


async def _until(found: Any) -> None:
    async with asyncio.timeout(10):
        while not found():
            await asyncio.sleep(0.01)
