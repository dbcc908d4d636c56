"""`cad offer`: a real ledger behind a real socket; what a load shows, does, refuses, and leaves in the audit."""

import asyncio
import getpass
import json
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cad.cli import main as cli_main
from cad.cli.offers import file as offer_file
from cad.cli.offers import offer as cli_offer
from cad.cli.shell.exit_codes import ExitCode
from cad.frame import logs
from cad.frame.clock import SystemClock
from cad.frame.metrics import Metrics
from cad.http.catalogue import catalogue_routes
from cad.ledger.ledger import Ledger
from cad.ledger.model import Outcome
from cad.orders.catalogue import CatalogueDesk
from tests.support.daemon_socket import ServedDaemon
from tests.support.ledgers import GRANTS, KEY, assign, offer, order, subscribe
from tests.support.logs import logging_as_before

CATALOGUE = """
operator = "karjaa"
[headings]
tv = { fi = "Kanavat", en = "Channels" }
[[offers]]
offer = "basic"
kind = "package"
names = { fi = "Perus", en = "Basic" }
products = ["sport", "news"]
heading = "tv"
[[offers]]
offer = "mix"
kind = "mix"
choose = 1
names = { fi = "Valitse" }
products = ["sport", "film"]
[offers.terms]
price = "5 EUR"
"""


class Desk:
    """A daemon with offers, and the command line that asks it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.file = folder / "catalogue.toml"
        self.file.write_text(CATALOGUE)
        self.followed: list[Outcome] = []
        self.ledger = asyncio.run(Ledger.open(folder / "ledger.db", audit_key=KEY, grants=GRANTS, clock=SystemClock()))
        routes = catalogue_routes(CatalogueDesk(self.ledger, Metrics(), self.followed.extend))
        self.daemon = ServedDaemon(folder / "s", routes)
        self.daemon.start()

    def close(self) -> None:
        self.daemon.stop()
        asyncio.run(self.ledger.close())

    def commit(self, *orders: Any) -> None:
        for outcome in asyncio.run(self.ledger.commit(orders)):
            assert outcome.code == "ok", outcome

    def cad(self, *arguments: str) -> tuple[int, str]:
        code = cli_main.run([*arguments, "--socket", str(self.folder / "s")])
        shown = self.capsys.readouterr()
        return int(code), shown.out + shown.err

    def load(self, *arguments: str) -> tuple[int, str]:
        return self.cad("offer", "load", str(self.file), *arguments)

    def load_json(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        code, shown = self.load("--json", *arguments)
        return code, json.loads(shown)

    def offers(self, operator: str = "karjaa") -> dict[str, dict[str, Any]]:
        code, shown = self.cad("offer", "list", "--operator", operator, "--json")
        assert code == ExitCode.OK
        (found,) = json.loads(shown)["operators"]
        return {one["offer"]: one for one in found["offers"]}

    def audit(self) -> list[dict[str, Any]]:
        async def export() -> list[dict[str, Any]]:
            return [record async for record, _ in self.ledger.audit_export()]

        return [one for one in asyncio.run(export()) if one["kind"] == "command"]


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    with logging_as_before():
        logs.configure("critical", "console")
        one = Desk(tmp_path, capsys)
        yield one
        one.close()


def changes(found: dict[str, Any]) -> dict[str, str]:
    return {one["offer"]: one["change"] for one in found["offers"]}


@pytest.mark.slow
def test_a_dry_run_shows_everything_and_does_nothing(desk: Desk) -> None:
    desk.commit(
        offer(), offer("o2", offer="old"), assign(), subscribe(), subscribe("s2", subscription="s-2", offer="old")
    )
    code, shown = desk.load("--dry-run")
    assert code == ExitCode.OK
    for line in (
        "~ basic  changed  (1 cards)",
        "      names.en: Basic",
        "      products: +news",
        "      heading.fi: Kanavat",
        "+ mix  new",
        "      choose: 1",
        "      terms.price: 5 EUR",
        "- old  withdrawn",
        "karjaa: 1 new, 1 changed, 1 withdrawn, 0 unchanged; 1 cards would be sent new content",
    ):
        assert line in shown.splitlines(), shown
    assert {name: one["rev"] for name, one in desk.offers().items()} == {"basic": 1, "old": 1}
    assert desk.followed == []


@pytest.mark.slow
def test_loading_is_a_command_for_each_offer_in_the_audit_with_who_gave_it(desk: Desk) -> None:
    desk.commit(offer(), offer("o2", offer="old"), assign(), subscribe())
    before = len(desk.audit())
    code, found = desk.load_json("--yes")
    assert (code, found["applied"]) == (ExitCode.OK, True)
    assert changes(found) == {"basic": "changed", "mix": "new", "old": "withdrawn"}
    records = desk.audit()[before:]
    assert [(one["resource"], one["verb"], one["body"]["offer"], one["code"]) for one in records] == [
        ("offer", "put", "basic", "ok"),
        ("offer", "put", "mix", "ok"),
        ("offer", "withdraw", "old", "ok"),
    ]
    assert {one["by"] for one in records} == {f"{getpass.getuser()} (uid {os.getuid()})"}
    assert [len(one.card_changes) for one in desk.followed] == [1, 0, 0], "what changed goes to the air"
    there = desk.offers()
    assert (there["basic"]["products"], there["basic"]["subscriptions"]) == (["sport", "news"], 1)
    assert there["old"]["withdrawn_at"] is not None
    assert asyncio.run(desk.ledger.audit_verify()).seq > 0


def test_the_unit_lets_the_daemon_see_who_asks() -> None:
    unit = Path("systemd/cad.service").read_text()
    assert not [line for line in unit.splitlines() if line.startswith("PrivateUsers=") and not line.endswith("no")]


@pytest.mark.slow
def test_a_catalogue_that_only_the_daemon_can_refuse_is_refused_in_words(desk: Desk) -> None:
    socket = httpx.HTTPTransport(uds=str(desk.folder / "s"))
    with httpx.Client(transport=socket, base_url="http://cad") as client:
        for content in (b"no JSON", b"[]", b'{"catalogue": {"operator": "karjaa"}}', b"[" * 100_000, b" " * 5_000_000):
            answer = client.post("/v1/offers/load", content=content)
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "CatalogueError")
        assert client.get("/v1/offers", params={"operator": ""}).status_code == 404


@pytest.mark.slow
def test_loading_again_does_nothing(desk: Desk) -> None:
    assert desk.load("--yes")[0] == ExitCode.OK
    written = len(desk.audit())
    code, shown = desk.load("--yes")
    assert (code, shown.splitlines()[-1]) == (ExitCode.OK, "there is nothing to do")
    assert len(desk.audit()) == written
    assert set(changes(desk.load_json("--dry-run")[1]).values()) == {"unchanged"}


@pytest.mark.slow
def test_json_and_toml_say_the_same(desk: Desk) -> None:
    desk.load("--yes")
    path = desk.folder / "catalogue.json"
    path.write_text(json.dumps(tomllib.loads(CATALOGUE)))
    code, shown = desk.cad("offer", "load", str(path), "--dry-run", "--json")
    assert (code, set(changes(json.loads(shown)).values())) == (ExitCode.OK, {"unchanged"})


def test_the_example_that_ships_is_read_as_it_stands() -> None:
    found = offer_file.read(Path("config/catalogue.example.toml"))
    assert found["offers"][-1]["starts_at"] == "2027-02-01T18:00:00+02:00"


@pytest.mark.slow
def test_who_is_asked_may_say_no(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self, *_: int) -> str:
            return "n\n"

    monkeypatch.setattr(sys, "stdin", Terminal())
    code, shown = desk.load()
    assert (code, "+ mix  new" in shown) == (ExitCode.ABORTED, True)
    assert desk.offers() == {}


@pytest.mark.slow
def test_without_anybody_to_ask_it_wants_to_be_told(desk: Desk) -> None:
    for arguments in ([], ["--json"]):
        code, shown = desk.load(*arguments)
        assert (code, "--yes" in shown) == (ExitCode.USAGE, True)
    assert desk.offers() == {}


@pytest.mark.slow
def test_what_the_headend_would_refuse_is_shown_and_nothing_is_done(desk: Desk) -> None:
    refused = CATALOGUE.replace('["sport", "news"]', '["sport", "opera"]').replace(
        "price =", 'requires = ["tv"]\nprice ='
    )
    desk.file.write_text(refused)
    code, found = desk.load_json("--yes")
    assert (code, found["applied"]) == (ExitCode.CHECK_FAILED, False)
    assert {one["offer"]: (one["code"], one["detail"]) for one in found["offers"]} == {
        "basic": ("not_granted", "not granted to you: opera"),
        "mix": ("unknown_offer", "terms.requires: you have no offer named tv"),
    }
    assert desk.load("--dry-run")[0] == ExitCode.CHECK_FAILED
    assert "2 refused; nothing was changed" in desk.load("--yes")[1]
    assert desk.offers() == {}


@pytest.mark.slow
def test_a_mix_does_not_become_a_package(desk: Desk) -> None:
    desk.commit(offer(offer="mix"))
    code, found = desk.load_json("--yes")
    assert (code, {one["offer"]: one["code"] for one in found["offers"]}) == (
        ExitCode.CHECK_FAILED,
        {"basic": "ok", "mix": "kind_fixed"},
    )


@pytest.mark.slow
def test_operators_do_not_meet(desk: Desk) -> None:
    desk.commit(offer("k1", "kaspnet", offer="theirs"))
    assert desk.load("--yes")[0] == ExitCode.OK
    assert desk.offers("kaspnet")["theirs"]["withdrawn_at"] is None
    desk.file.write_text(CATALOGUE.replace('"karjaa"', '"kaspnet"'))
    code, found = desk.load_json("--yes")
    assert (code, {one["offer"]: one["code"] for one in found["offers"]}) == (
        ExitCode.CHECK_FAILED,
        {"basic": "not_granted", "mix": "not_granted", "theirs": "ok"},
    )
    desk.file.write_text(CATALOGUE.replace('"karjaa"', '"nobody"'))
    code, shown = desk.load("--yes")
    assert (code, "they have: karjaa, kaspnet" in shown) == (ExitCode.NOT_FOUND, True)
    assert desk.cad("offer", "list", "--operator", "nobody")[0] == ExitCode.NOT_FOUND


def test_a_file_that_cannot_be_used_says_every_line(desk: Desk) -> None:
    desk.file.write_text(CATALOGUE.replace('kind = "package"', 'kind = "packet"').replace("choose = 1", "chose = 1"))
    code, shown = desk.load("--yes")
    assert code == ExitCode.INPUT
    assert "line 7: offers.0.kind: Input should be 'channel'" in shown
    assert "line 14: offers.1.chose: unknown key; did you mean choose?" in shown
    for content, words in (
        (b"operator = ", "is not TOML"),
        (b"\xff", "is not UTF-8"),
        (b"a = " + b"[" * 5000, "is not TOML" if sys.version_info >= (3, 12) else "nested too deeply"),
        (b" " * 3_000_000, "is larger than"),
    ):
        desk.file.write_bytes(content)
        code, shown = desk.load("--yes")
        assert (code, words in shown) == (ExitCode.INPUT, True), shown
    desk.file = desk.folder / "catalogue.json"
    code, shown = desk.load("--yes")
    assert (code, "cannot be read: No such file" in shown) == (ExitCode.INPUT, True)
    desk.file.write_text('{"operator": "a", "operator": "b"}')
    assert "'operator' stands twice" in desk.load("--yes")[1]


@pytest.mark.slow
def test_offers_that_changed_since_they_were_shown_are_left_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cli_offer._is_done

    def meanwhile(found: dict[str, Any]) -> bool:
        desk.commit(offer(rev=5))
        return real(found)

    monkeypatch.setattr(cli_offer, "_is_done", meanwhile)
    code, shown = desk.load("--yes")
    assert (code, "look again" in shown) == (ExitCode.FAILED, True)
    assert list(desk.offers()) == ["basic"]


@pytest.mark.slow
def test_the_list_stands_under_its_headings(desk: Desk) -> None:
    desk.load("--yes")
    desk.commit(
        assign(),
        order("karjaa", "subscription", "put", "m", subscription="m", rev=1, card=7, offer="mix", choice=["film"]),
    )
    desk.commit(order("karjaa", "offer", "withdraw", "w", offer="basic", rev=9))
    code, shown = desk.cad("offer", "list", "--language", "en")
    assert code == ExitCode.OK
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "karjaa: Channels" in lines
    assert "kaspnet has no offers" in lines
    assert any(line.startswith("basic Basic package sport news - 0 not since 20") for line in lines), lines
    assert "mix Valitse mix-1 sport film price 5 EUR 1 yes" in lines, shown
    assert "karjaa: Kanavat" in desk.cad("offer", "list", "--language", "fi")[1]
