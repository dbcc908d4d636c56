"""C11: active cards per channel, product and offer on any day; every activation and deactivation in a period."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cad.errors import NotFoundError, QuestionError
from cad.ledger.ledger import Ledger
from cad.ledger.look import history
from cad.reports.desk import ReportDesk
from config.load import loads
from tests.support.clock import ManualClock
from tests.support.hand_headend import GRANTS, NUMBERS, HandHeadend, at, on_the_wall
from tests.support.ledgers import KEY

SETTINGS = """
[mqtt]
host = "localhost"
[keys]
passphrase_file = "/nonexistent/passphrase"
[ca]
ca_system_id = 0x4AD1
[[networks]]
id = "south"
"""
SERVICE = """
[[networks.services]]
id = "{0}-1"
name = "{0}"
original_network_id = 1
transport_stream_id = 1
service_id = {1}
"""
PRODUCT = '[[networks.products]]\nid = "{0}"\nproduct_id = {1}\nservices = [{2}]\n'
OPERATOR = """
[[operators]]
id = "{0}"
network = "south"
products = ["sport"]
card_ranges = [{{ first = "{1}", last = "{1}" }}]
time_zone = "Europe/Helsinki"
"""
TEXT = (
    SETTINGS
    + "".join(SERVICE.format(name, number) for number, name in enumerate(("basic", "sport", "film"), 1))
    + PRODUCT.format("basic", 1, '"basic-1"')
    + PRODUCT.format("sport", 2, '"sport-1"')
    + PRODUCT.format("film", 3, '"film-1", "sport-1"')
    + OPERATOR.format("karjaa", NUMBERS[0])
    + OPERATOR.format("kaspnet", NUMBERS[9])
)


@pytest.fixture
def headend(tmp_path: Path) -> Iterator[HandHeadend]:
    one = HandHeadend(tmp_path, at("2026-12-01 10:00"))
    one.done("offer put", offer="sport", kind="channel", names={"fi": "S"}, products=["sport"])
    one.done("offer put", offer="big", kind="package", names={"fi": "B"}, products=["basic", "film"])
    yield one
    one.close()


@asynccontextmanager
async def reports(one: HandHeadend) -> AsyncIterator[ReportDesk]:
    """The desk, on the ledger as it is now."""
    one.close()
    clock = ManualClock(float(one.now))
    ledger = await Ledger.open(one.folder / "ledger" / "ledger.db", audit_key=KEY, grants=GRANTS, clock=clock)
    try:
        yield ReportDesk(lambda: loads(TEXT.encode()), ledger, clock)
    finally:
        await ledger.close()
        one._open()


def weeks_of_two_cards(one: HandHeadend) -> None:
    first, second, third = NUMBERS[:3]
    one.done("card assign", card=first, subscriber="anna")
    one.done("subscription put", subscription="s-1", card=first, offer="sport")
    one.go_to(at("2026-12-02 09:00"))
    one.done("card assign", card=second, subscriber="bert")
    window = {"starts_at": "2026-12-03T00:00:00+02:00", "ends_at": "2026-12-05T00:00:00+02:00"}
    one.done("subscription put", subscription="s-2", card=second, offer="big", **window)
    one.go_to(at("2026-12-04 12:00"))
    one.done("card suspend", card=first)
    one.go_to(at("2026-12-06 12:00"))
    one.done("card reopen", card=first)
    one.go_to(at("2026-12-07 12:00"))
    one.done("card replace", card=first, replacement=third)
    one.go_to(at("2026-12-08 08:00"))


def plain(document: dict[str, Any]) -> dict[str, Any]:
    one = document["operators"][0]
    names = {row[kind]: row["cards"] for kind in ("service", "offer") for row in one[f"{kind}s"]}
    return {"cards": one["cards"]} | names


@pytest.mark.slow
async def test_c11_active_cards_on_any_day(headend: HandHeadend) -> None:
    weeks_of_two_cards(headend)
    one = {"cards": 1, "sport-1": 1, "sport": 1}
    package = {"cards": 1, "big": 1, "basic-1": 1, "film-1": 1, "sport-1": 1}
    expected = {
        1: one,
        2: one,
        3: {"cards": 2, "sport": 1, "big": 1, "basic-1": 1, "film-1": 1, "sport-1": 2},
        4: package,
        5: {"cards": 0},
        6: one,
        7: one,
        8: one,
    }
    async with reports(headend) as desk:
        for day, counts in expected.items():
            assert plain(await desk.active(f"2026-12-0{day}", "karjaa")) == counts, day
        today = await desk.active("2026-12-08", "karjaa")
        assert today["operators"][0]["as_of"] == "2026-12-08T06:00:00Z"


@pytest.mark.slow
async def test_c11_every_turn_in_a_period(headend: HandHeadend) -> None:
    weeks_of_two_cards(headend)
    first, second, third = NUMBERS[:3]
    async with reports(headend) as desk:
        found = [one async for one in desk.changes("2026-12-01", "2026-12-31", "karjaa")]
    turns = [(one["card"], on_the_wall(one["at"]), one["change"]) for one in found if one["what"] == "card"]
    assert turns == [
        (first, "2026-12-01 10:00", "activated"),
        (first, "2026-12-04 12:00", "deactivated"),
        (first, "2026-12-06 12:00", "activated"),
        (first, "2026-12-07 12:00", "deactivated"),
        (second, "2026-12-03 00:00", "activated"),
        (second, "2026-12-05 00:00", "deactivated"),
        (third, "2026-12-07 12:00", "activated"),
    ]
    channels = {one["name"] for one in found if one["card"] == second and one["what"] == "service"}
    assert channels == {"basic-1", "film-1", "sport-1"}
    by_the_clock = [one["command"] is None for one in found if one["card"] == second]
    assert all(by_the_clock), "its moments came by themselves"
    assert all(one["command"] for one in found if one["card"] == first)


@pytest.mark.slow
async def test_c11_only_the_days_that_were_asked_for(headend: HandHeadend) -> None:
    weeks_of_two_cards(headend)
    async with reports(headend) as desk:
        found = [one async for one in desk.changes("2026-12-04", "2026-12-04", "karjaa")]
        everything = [one async for one in desk.changes("2026-12-01", "2026-12-08")]
        parts = [one for day in range(1, 9) async for one in desk.changes(f"2026-12-0{day}", f"2026-12-0{day}")]
    assert {on_the_wall(one["at"]) for one in found} == {"2026-12-04 12:00"}
    assert sorted(map(str, parts)) == sorted(map(str, everything)), "no turn is lost or told twice between days"


@pytest.mark.slow
async def test_c11_a_trust_payment_that_ran_out_is_a_deactivation(headend: HandHeadend) -> None:
    number = NUMBERS[0]
    headend.done("card assign", card=number, subscriber="anna")
    headend.done("subscription put", subscription="s-1", card=number, offer="sport")
    headend.done("card suspend", card=number)
    headend.go_to(at("2026-12-02 10:00"))
    headend.done("card reopen", card=number, until="2026-12-03T18:00:00+02:00")
    headend.go_to(at("2026-12-05 10:00"))
    async with reports(headend) as desk:
        found = [one async for one in desk.changes("2026-12-02", "2026-12-05") if one["what"] == "offer"]
    assert [(on_the_wall(one["at"]), one["change"]) for one in found] == [
        ("2026-12-02 10:00", "activated"),
        ("2026-12-03 18:00", "deactivated"),
    ]


@pytest.mark.slow
async def test_c11_each_operator_has_its_own(headend: HandHeadend) -> None:
    weeks_of_two_cards(headend)
    async with reports(headend) as desk:
        whole = await desk.active("2026-12-03")
        assert [(one["operator"], one["cards"]) for one in whole["operators"]] == [("karjaa", 2), ("kaspnet", 0)]
        assert [one async for one in desk.changes("2026-12-01", "2026-12-08", "kaspnet")] == []
        with pytest.raises(NotFoundError, match="there are: karjaa, kaspnet"):
            await desk.active("2026-12-03", "nobody")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("days", "words"),
    [
        (("2026-13-01", "2026-12-02"), "is no day"),
        (("2026-12-02", "2026-12-01"), "a later last one"),
        (("2020-12-02", "2026-12-01"), "two years at most"),
    ],
)
async def test_c11_what_cannot_be_answered_is_told(headend: HandHeadend, days: tuple[str, str], words: str) -> None:
    async with reports(headend) as desk:
        with pytest.raises(QuestionError, match=words):
            await desk.check(*days)
        with pytest.raises(QuestionError, match="has not begun"):
            await desk.active("2026-12-24")


@pytest.mark.slow
async def test_c11_a_ledger_from_before_there_was_a_history_says_where_it_begins(headend: HandHeadend) -> None:
    weeks_of_two_cards(headend)
    with headend.store.database.transaction() as held:
        held.exec_driver_sql("DELETE FROM history")
        held.exec_driver_sql("DELETE FROM meta WHERE key = 'history_since'")
    async with reports(headend) as desk:
        with pytest.raises(QuestionError, match="begins on 2026-12-08"):
            await desk.active("2026-12-07")
        assert plain(await desk.active("2026-12-08")) == {"cards": 1, "sport-1": 1, "sport": 1}


@pytest.mark.slow
async def test_c11_what_is_older_than_two_years_is_forgotten_and_what_still_holds_is_not(headend: HandHeadend) -> None:
    weeks_of_two_cards(headend)
    headend.go_to(at("2029-06-01 12:00"))
    async with reports(headend) as desk:
        before = await desk.active("2029-05-01", "karjaa")
        await desk._ledger.prune()
        assert await desk.active("2029-05-01", "karjaa") == before
        blocks = await desk._ledger.perform(lambda _, held: history.block(held, "karjaa", -1, -1))
    assert len(blocks) == 3, "one row for each card: what it has been since"
