"""M3 for messages: by when each has been sent once to all that it is for, whatever else is ordered."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cad.air.broadcast import Channel
from cad.air.notice_log import Notice
from cad.air.notice_promises import NOBODY, READY_S, SEAL_S, TOO_SHORT, Ahead, Load, Reach, load_of
from cad.air.notices import emms_to_cards, emms_to_ranges
from cad.air.promises import NOT_YET, ROUNDING_S, Promise, Told
from cad.air.roster import Roster, card_block, right_block
from cad.ledger.promise import Showing
from cad.ledger.tables.messages import OnAirMessage
from config.settings import OperatorSettings
from emm.keys import KeyLadder, LocalMasterKey
from emm.notices.content import CONTENT_MAX, GROUP_SIZE, Message, build_content
from emm.notices.seal import NoticeSealer
from emm.rotation.notice_forecast import NoticeForecast
from protocol.card_number import spell
from tests.cad.air.test_broadcast import Setting
from tests.support.clock import ManualClock

SEALER = NoticeSealer(KeyLadder(LocalMasterKey(bytes(32))))
NOW = 1_800_000_000
CONTENT = build_content(Message(False, NOW, NOW + 90_000, (("en", "hello"),)))
OPERATOR = OperatorSettings.model_validate(
    {"id": "a", "network": "net", "card_ranges": [{"first": spell(0), "last": spell(9_999)}]}
)
REACH = Reach(((0, 9_999),), (1,), 40, 10_000, "net")


def message(number: int = 1, **changed: Any) -> OnAirMessage:
    """To all cards of operator a, unless said otherwise."""
    told: dict[str, Any] = {"operator": "a", "message": f"m-{number}", "number": number, "content": CONTENT}
    told |= {"starts_at": NOW, "ends_at": NOW + 90_000, "repeat_s": 300, "changed_at": NOW, "cards": None}
    return OnAirMessage(**(told | {"offer_id": None} | changed))


# --- what a message takes


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=500), st.sets(st.integers(0, 2_000)))
def test_the_reckoning_is_what_is_sealed_then(text: str, addresses: set[int]) -> None:
    cards = [(address, 1 + address % 2) for address in sorted(addresses)]
    groups = len({address // GROUP_SIZE for address in addresses})
    content = build_content(Message(True, 0, 4_000_000_000, (("ru", text),)))
    assert len(content) <= CONTENT_MAX
    reach = Reach(((0, 2_000),) * 9, (1, 2), groups, len(cards), "net")
    named = message(content=content, cards=tuple(addresses))
    by_group = message(content=content, offer_id=1)
    to_all = message(content=content)
    for whom, sealed in (
        (named, list(emms_to_cards(named, cards, SEALER))),
        (by_group, list(emms_to_cards(by_group, cards, SEALER))),
        (to_all, emms_to_ranges(to_all, reach.ranges, reach.key_versions, SEALER)),
    ):
        load = load_of(whom, reach, most=len(cards))
        assert load.emms >= len(sealed)
        assert load.known == (whom is not by_group)
        assert not load.known or load.emms == len(sealed)
        assert all(sum(map(len, emm)) <= sum(load.sizes) for emm in sealed)
        assert not sealed or tuple(map(len, sealed[0])) == load.sizes


def test_groups_are_counted_in_an_operators_ranges_alone_also_of_cards_that_came_later() -> None:
    roster = Roster()
    addresses = [5, 6, 255, 256, 1_000, 5_000, 5_001]
    roster.load(card_block([(address, 1, 1, False) for address in addresses]), right_block(()))
    assert [roster.count_groups([each]) for each in ((0, 999), (0, 1_000), (6, 255), (2_000, 3_000))] == [2, 3, 1, 0]
    setting = Setting()
    setting.roster = roster
    for address in (7, 600, 601, 9_000):
        setting.change(address)
    assert roster.count_groups([(0, 1_000)]) >= len({address >> 8 for address in (5, 255, 256, 600, 1_000)})
    assert roster.count_groups([(9_000, 9_000), (5_000, 5_001)]) == 2


# --- what is promised


class Outlet:
    """Certain: a thousand bits a second in each lane, with nothing before and nothing held."""

    forecast = NoticeForecast(1_000.0, (0, 0), 0.0)

    def notice_forecast(self) -> NoticeForecast:
        return self.forecast

    def notice_bits(self, sections: Sequence[int]) -> int:
        return 1_000


class Network:
    id = "net"
    cards = 10_000

    def __init__(self, *forecasts: NoticeForecast) -> None:
        self.channels = [Outlet() for _ in forecasts] or [Outlet()]
        for channel, forecast in zip(self.channels, forecasts, strict=False):
            channel.forecast = forecast

    def count_groups(self, ranges: Sequence[tuple[int, int]]) -> int:
        return 40


class Desk:
    """Promises of one network, under a clock that stands still."""

    def __init__(self, network: Network | None = None, look_s: float = 0.0) -> None:
        self.clock = ManualClock(NOW)
        self.network = network or Network()
        self.ahead = Ahead(self.clock)
        self.look(look_s=look_s)

    def look(self, *messages: OnAirMessage, look_s: float = 0.0) -> None:
        """A look of the board that finds these messages."""
        expected = self.ahead.expected
        self.ahead.look(self.network, [OPERATOR], (1,), messages)
        self.ahead.settle(expected, look_s)

    def ask(self, one: OnAirMessage, most: int | None = None, now: float | None = None) -> Told:
        promise = self.ahead.promise("a", self.network, self.clock.now() if now is None else now)
        assert promise is not None
        return promise.of(Showing(one, most))


def by(seconds: float, emms: int) -> int:
    """What is promised where all is out after `seconds`, `emms` of them having to be sealed."""
    return math.ceil(NOW + seconds + READY_S + SEAL_S * emms + ROUNDING_S)


def test_a_message_is_on_the_air_when_its_last_emm_has_gone_out_on_the_slowest_multiplex() -> None:
    assert Desk().ask(message()) == Told(by(1, 1), None)
    assert Desk().ask(message(cards=tuple(range(10)))) == Told(by(10, 10), None)
    assert Desk().ask(message(offer_id=1)) == Told(by(40, 40), None)
    assert Desk().ask(message(region=7), most=12) == Told(by(12, 12), None)
    slow = Network(Outlet.forecast, NoticeForecast(100.0, (0, 0), 3.0))
    assert Desk(slow).ask(message()) == Told(by(10 + 3, 1), None)
    assert Desk(look_s=4.0).ask(message()) == Told(by(1 + 8, 1), None), "two looks may have to be waited for"


def test_one_that_begins_later_is_not_promised_before() -> None:
    assert Desk().ask(message(starts_at=NOW + 3_600)) == Told(by(3_600 + 1, 1), None)


def test_no_time_is_told_where_it_ends_before_or_is_for_nobody() -> None:
    assert Desk().ask(message(offer_id=1, ends_at=NOW + 40)) == Told(None, None, TOO_SHORT)
    assert Desk().ask(message(offer_id=1), most=0) == Told(None, None, NOBODY)
    assert Desk(Network(NoticeForecast(0.0, (0, 0), 0.0))).ask(message()) == Told(None, None, TOO_SHORT)


def test_each_stands_behind_those_ordered_before_it() -> None:
    desk = Desk()
    long = message(1, offer_id=1)
    assert desk.ask(long) == Told(by(40, 40), None)
    assert desk.ask(message(2, region=7)) == Told(by(80, 80), None), "of the same commit"
    desk.ahead.expect(Showing(long, None))
    assert desk.ask(message(2, region=7), now=NOW + 0.001) == Told(by(80, 80), None), "committed, and not looked up"
    assert desk.ask(message(3), now=NOW + 0.002).on_air_by == by(1 + 40, 41), "it may turn out to be a short one"
    desk.look(long)
    assert desk.ask(message(2, region=7), now=NOW + 0.003) == Told(by(40, 40), None), "the outlet has it now"
    desk.look(replace(long, starts_at=NOW + 20), message(4, starts_at=NOW + 9_000))
    told = desk.ask(message(5, region=7), now=NOW + 0.004)
    assert told == Told(by(80, 81), None), "what begins meanwhile goes before, what begins later does not"


def test_what_is_put_anew_while_it_is_looked_up_is_still_expected() -> None:
    desk = Desk()
    desk.ahead.expect(Showing(message(1), None))
    expected = desk.ahead.expected
    desk.ahead.expect(Showing(message(1, offer_id=1), None))
    desk.ahead.settle(expected, 0.0)
    assert [load.emms for load in desk.ahead.expected.values()] == [40]


def test_cards_that_came_since_the_last_look_may_be_groups_of_their_own() -> None:
    desk = Desk()
    desk.network.cards += 5
    assert desk.ask(message(offer_id=1)) == Told(by(45, 45), None)


def test_nothing_is_promised_before_the_first_look_nor_for_a_network_that_was_left() -> None:
    ahead, network = Ahead(ManualClock(NOW)), Network()
    assert ahead.promise("a", network, NOW) is None
    ahead.expect(Showing(message(), None))
    assert ahead.expected == {}
    ahead.look(network, [OPERATOR], (1,), [])
    network.id = "other"
    assert ahead.promise("a", network, NOW) is None
    assert Promise(NOW, []).of_message(Showing(message(), None)) == Told(None, None, NOT_YET)


# --- what becomes of it on a channel


def sealed(load: Load, number: int) -> list[tuple[bytes, ...]]:
    """As many EMMs as were reckoned with."""
    cards = [(place * GROUP_SIZE, 1) for place in range(load.emms)]
    return list(emms_to_cards(message(number, offer_id=1), cards, SEALER))


@pytest.mark.slow
@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("mode", ["section", "packet"])
@pytest.mark.parametrize("own", [10, 60])
async def test_a_channel_keeps_what_is_promised_also_while_notices_have_to_give_way(
    squeezed: bool, mode: str, own: int
) -> None:
    setting = Setting(mode=mode)
    load = load_of(message(2, offer_id=1), REACH, most=own)

    def notice(number: int, emms: int) -> dict[int, Notice]:
        return {number: Notice(300.0, sealed(replace(load, emms=emms), number))}

    async with setting.running():
        setting.link.up(1_000_000)
        setting.channel.set_notices(notice(1, 40))
        setting.channel.notices.squeeze(squeezed, setting.clock.monotonic())
        assert setting.channel.notice_forecast().waiting_bits == (0, 40 * setting.channel.notice_bits(load.sizes))
        promised = promise_on(setting.channel, setting.clock, message(2, offer_id=1), most=own)
        put(setting, squeezed, notice(1, 40) | notice(2, own))
        await setting.pass_time(1)
        put(setting, squeezed, notice(1, 40) | notice(2, own) | notice(3, 16) | notice(4, 60))
        while (at := setting.channel.notice_whole_at(2)) is None:
            assert setting.clock.now() <= promised
            setting.change(int(setting.clock.monotonic() * 10))
            await setting.pass_time(0.1)
        assert at <= promised
        took_s, told_s = at - NOW, promised - NOW
        held_s = setting.channel.notice_forecast().held_s
        assert told_s - held_s < 3 + (2 if squeezed else 20) * took_s, "nor is it far off"


def put(setting: Setting, squeezed: bool, notices: dict[int, Notice]) -> None:
    """Hand notices to the channel, which keeps the share that it has."""
    setting.channel.set_notices(notices)
    setting.channel.notices.squeeze(squeezed, setting.clock.monotonic())


def promise_on(channel: Channel, clock: ManualClock, one: OnAirMessage, most: int) -> int:
    """What is promised on one channel alone."""

    class Alone(Network):
        def __init__(self) -> None:
            self.channels = [channel]  # type: ignore[list-item]

    ahead, network = Ahead(clock), Alone()
    ahead.look(network, [OPERATOR], (1,), [])
    promise = ahead.promise("a", network, clock.now())
    assert promise is not None
    told = promise.of(Showing(one, most))
    assert told.on_air_by is not None, told
    return told.on_air_by
