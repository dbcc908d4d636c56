"""`cad card verify`, `refresh`, `field` and the page as a technician uses them: real pcscd, real TLS, real browser."""

import asyncio
import itertools
import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Page, async_playwright, expect

from cad.cli.cards.technician_options import field_work
from cad.cli.shell.exit_codes import ExitCode
from cad.field.api import ANSWER_S, CONNECT_S
from cad.field.report import ReportDocument
from cad.field.work import FieldWork
from protocol import card_number
from tests.support.cards import OTHER_LADDER
from tests.support.laptop import make_card
from tests.support.technician import KAISA

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("pcscd")]

MINE = card_number.spell(KAISA)
CHROMIUM = "/usr/bin/chromium"
LIMIT_S = 10.0
expect.set_options(timeout=30_000)
PASS_GREEN, FAIL_RED = "rgb(17, 107, 52)", "rgb(168, 22, 22)"


@pytest.mark.slow
async def test_a_blank_card_fails_is_refreshed_and_passes_within_ten_seconds(laptop, insert, tmp_path) -> None:
    with make_card(tmp_path, KAISA) as card:
        insert(card)
        failed = await laptop.run("card", "verify")
        assert failed.returncode == ExitCode.CHECK_FAILED
        assert failed.stdout.startswith(" FAIL  The card has heard nothing")
        assert "Next: Write it in now: cad card refresh." in failed.stdout
        mended = await laptop.run("card", "refresh", "--json")
        assert (mended.returncode, mended.stderr) == (ExitCode.OK, "")
        report = ReportDocument.model_validate_json(mended.stdout)
        assert (report.passed, report.genuine, report.number) == (True, True, MINE)
        again = await laptop.run("card", "verify")
        assert (again.returncode, again.stdout[:6]) == (ExitCode.OK, " PASS ")
        assert f"{MINE[:4]} {MINE[4:8]} {MINE[8:]}" in again.stdout
        assert "Sport 1" in again.stdout


async def test_a_copy_fails_and_a_stranger_fails(laptop, insert, tmp_path) -> None:
    with make_card(tmp_path, KAISA, OTHER_LADDER) as copy:
        insert(copy)
        found = await laptop.run("card", "verify")
    assert found.returncode == ExitCode.CHECK_FAILED
    assert "This card is not genuine" in found.stdout


@pytest.mark.slow
async def test_without_network_and_back_again(laptop, headend, insert, tmp_path) -> None:
    fetched = await laptop.run("field", "fetch", "--json")
    assert (fetched.returncode, json.loads(fetched.stdout)["cards"]) == (ExitCode.OK, 1)
    good, laptop_off = headend.url, "https://127.0.0.1:1"
    laptop.at(laptop_off)
    with make_card(tmp_path, KAISA) as card:
        insert(card)
        refreshed = await laptop.run("card", "refresh", "--json")
    assert refreshed.returncode == ExitCode.OK, refreshed.stderr
    assert json.loads(refreshed.stdout)["source"] == "extract"
    assert (await laptop.run("field", "send")).returncode == ExitCode.UNREACHABLE
    shown = json.loads((await laptop.run("field", "show", "--json")).stdout)
    assert [one["done"] for one in shown["waiting"]] == ["refresh"]
    await headend.order("card", "suspend", card=MINE)
    laptop.at(good)
    sent = await laptop.run("field", "send")
    assert sent.returncode == ExitCode.CHECK_FAILED
    assert "but the ledger is at" in sent.stdout
    assert (await laptop.run("field", "send")).stdout == "nothing waits to be sent\n"


@pytest.mark.slow
async def test_a_headend_that_accepts_and_never_answers_is_waited_for_once_only(laptop, insert, tmp_path) -> None:
    """The laptop gives up, takes the extract, and does not ask again for this card: that is far below ten seconds."""
    assert CONNECT_S + ANSWER_S < LIMIT_S / 2
    await laptop.run("field", "fetch")
    with make_card(tmp_path, KAISA) as card, socket.create_server(("127.0.0.1", 0)) as mute:
        laptop.at(f"https://127.0.0.1:{mute.getsockname()[1]}")
        insert(card)
        with field_work(laptop.file, offline=False) as work:
            report = await asyncio.to_thread(verify_first_card, work)
            assert work.hand_in_if_possible() is None
        assert accepted_by(mute) == 1
    assert (report.source, report.verdict) == ("extract", "blank")


def accepted_by(server: socket.socket) -> int:
    """How many connections wait to be taken."""
    server.setblocking(False)
    for count in itertools.count():
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
    raise AssertionError


def verify_first_card(work: FieldWork) -> ReportDocument:
    from cards import pcsc

    with pcsc.connect(pcsc.list_readers()[0].name) as connection:
        return work.verify(connection)


@pytest.mark.slow
async def test_watch_gives_each_card_its_verdict_and_a_sound(laptop, insert, tmp_path) -> None:
    with make_card(tmp_path, KAISA) as mine, make_card(tmp_path, KAISA + 1) as unknown:
        async with laptop.serving("card", "verify", "--watch", "--count", "2", "--json") as watching:
            slot = insert(mine)
            first = await asyncio.to_thread(watching.stdout.readline)
            slot.remove()
            insert(unknown)
            second = await asyncio.to_thread(watching.stdout.readline)
            code = await asyncio.to_thread(watching.wait, 40)
            bells = watching.stderr.read()
    assert [json.loads(line)["verdict"] for line in (first, second)] == ["blank", "unknown-card"]
    assert code == ExitCode.CHECK_FAILED
    assert bells.count("\a") == 6


async def test_watch_ended_by_ctrl_c_says_whether_a_card_failed(laptop, insert, tmp_path) -> None:
    with make_card(tmp_path, KAISA) as mine:
        async with laptop.serving("card", "verify", "--watch", "--json") as watching:
            insert(mine)
            said = ""
            while "\a\a\a" not in said:
                said += await asyncio.to_thread(watching.stderr.read, 1)
            watching.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(watching.wait, 60) == ExitCode.CHECK_FAILED
            assert watching.stderr.read() == ""


class MuteCard:
    """A card whose answer to reset makes no sense: put in the wrong way round, or broken."""

    atr = b"\x12\x34"

    def reset(self) -> None:
        pass

    def process(self, command: bytes) -> bytes:
        raise AssertionError("nobody speaks to it")


@pytest.mark.slow
async def test_watch_outlives_a_mute_card_and_a_restart_of_pcscd(laptop, pcscd, insert, tmp_path) -> None:
    with make_card(tmp_path, KAISA) as mine:
        async with laptop.serving("card", "verify", "--watch", "--count", "2", "--json") as watching:
            slot = insert(MuteCard())
            said = ""
            while "\a\a\a" not in said:
                said += await asyncio.to_thread(watching.stderr.read, 1)
            assert pcscd.readers[0] in said
            slot.remove()
            pcscd.kill()
            lost = await asyncio.to_thread(watching.stderr.readline)
            assert "systemctl" in lost, lost
            pcscd.start()
            insert(mine)
            found = await asyncio.to_thread(watching.stdout.readline)
            assert json.loads(found)["verdict"] == "blank"
            assert await asyncio.to_thread(watching.wait, 60) == ExitCode.CHECK_FAILED


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("card", "verify"), ExitCode.CARD, "no card in any reader"),
        (("card", "refresh"), ExitCode.CARD, "no card in any reader"),
        (("card", "verify", "--reader", "nonsense"), ExitCode.CARD, "no reader named 'nonsense'"),
        (("card", "verify", "--count", "2"), ExitCode.USAGE, "--count goes with --watch"),
        (("card", "verify", "--technician", "/none.toml"), ExitCode.SETTINGS, "/none.toml cannot be used"),
        (("card", "explain", "hello"), ExitCode.USAGE, "four hexadecimal digits"),
        (("card", "explain", "1234"), ExitCode.USAGE, "four hexadecimal digits"),
        (("card", "explain", "9205"), ExitCode.OK, "the card is suspended"),
        (("card", "explain", "6A82"), ExitCode.OK, "the card manager"),
        (("card", "explain", "63C2"), ExitCode.OK, "2 tries are left"),
        (("card", "explain", "6110"), ExitCode.OK, "16 more bytes"),
        (("card", "explain", "6C05"), ExitCode.OK, "5 is right"),
        (("card", "explain", "6F00"), ExitCode.OK, "another card"),
        (("field", "fetch", "--card", "1"), ExitCode.INPUT, "card number"),
    ],
)
async def test_exit_codes_of_the_technicians_commands(laptop, arguments, code, words) -> None:
    found = await laptop.run(*arguments)
    assert found.returncode == code, found.stderr
    assert words in found.stdout + found.stderr


async def test_offline_without_an_extract_is_told_apart(laptop, insert, tmp_path) -> None:
    with make_card(tmp_path, KAISA) as card:
        insert(card)
        offline = await laptop.run("card", "verify", "--offline")
        laptop.at("https://127.0.0.1:1")
        away = await laptop.run("card", "verify")
    assert (offline.returncode, away.returncode) == (ExitCode.FAILED, ExitCode.UNREACHABLE)
    assert "no extract was taken along" in offline.stderr
    assert "no extract was taken along" in away.stderr


async def shot(page: Page, name: str) -> None:
    """A picture for docs/technician.md where a folder for it is named."""
    if folder := os.environ.get("CAD_SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.mark.slow
async def test_the_page_shows_red_and_green_in_a_browser(laptop, insert, tmp_path) -> None:
    with make_card(tmp_path, KAISA) as card, make_card(tmp_path, KAISA, OTHER_LADDER) as copy:
        async with laptop.serving("card", "gui", "--port", "0") as gui, async_playwright() as playwright:
            url = (await asyncio.to_thread(gui.stdout.readline)).split()[1]
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = await browser.new_page(viewport={"width": 900, "height": 760})
            faults: list[str] = []
            page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: faults.append(str(error)))
            await page.goto(url)
            await expect(page.locator("#word")).to_have_text("Put in a card")
            await expect(page.locator("#refresh")).to_be_disabled()
            slot = insert(card)
            await expect(page.locator("#word")).to_have_text("FAIL")
            await expect(page.locator("#verdict")).to_have_css("background-color", FAIL_RED)
            await expect(page.locator("#next")).to_contain_text("cad card refresh")
            await shot(page, "fail")
            await page.locator("#refresh").click()
            await expect(page.locator("#word")).to_have_text("PASS")
            await expect(page.locator("#verdict")).to_have_css("background-color", PASS_GREEN)
            await expect(page.locator("#rights")).to_contain_text("Sport 1")
            await shot(page, "pass")
            await page.set_viewport_size({"width": 360, "height": 640})
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360, "a phone need not scroll aside"
            await shot(page, "phone")
            slot.remove()
            await expect(page.locator("body")).to_have_attribute("data-card", "")
            await expect(page.locator("#refresh")).to_be_disabled()
            insert(copy)
            await expect(page.locator("#sentence")).to_contain_text("not genuine")
            await browser.close()
            assert faults == []
            gui.terminate()
            assert (await asyncio.to_thread(gui.communicate))[1] == ""


async def test_no_other_page_can_press_the_buttons(laptop, insert, tmp_path) -> None:
    async with laptop.serving("card", "gui", "--port", "0") as gui:
        url = (await asyncio.to_thread(gui.stdout.readline)).split()[1]
        async with httpx.AsyncClient(base_url=url) as client:
            page = await client.get("/")
            token = page.text.split('const token = "')[1].split('"')[0]
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert (await client.post("/refresh")).status_code == 403
            assert (await client.get("/state")).status_code == 403
            assert (
                await client.get("/state", headers={"X-Cad-Token": token, "Host": "evil.example"})
            ).status_code == 400
            ours = {"X-Cad-Token": token}
            assert (await client.get("/state", headers=ours)).json()["phase"] == "waiting"
            assert (await client.post("/refresh", headers=ours)).status_code == 409, "there is no card"
