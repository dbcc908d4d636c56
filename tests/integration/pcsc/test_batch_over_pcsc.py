"""A box of chips becomes a box of cards: the real pcscd, two readers at the same time, a real ledger, a clumsy hand."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cad import keystore
from cad.ledger import stock as ledger_stock
from cad.stock.transport_keys import write_delivery
from cards import pcsc
from cards.errors import PcscError, VpcdError
from cards.globalplatform.chip import Chip
from cards.globalplatform.commands import CardLifeCycle
from cards.readers.state import CardPresence
from cards.session import CardSession
from cards.vpcd import VirtualSlot
from config.load import load
from emm.keys import KeyLadder
from emm.plan import Right
from protocol import card_number
from tests.support.cards import NOW, ecm, emm
from tests.support.stock import chip_in, delivery, serial
from tests.support.stock_daemon import StockDaemon, stock_daemon
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.xdist_group("pcscd")]

SETTINGS = """
[node]
state_dir = "{folder}/state"
socket = "{folder}/s"
[mqtt]
host = "localhost"
[keys]
file = "{folder}/master.key"
passphrase_file = "{folder}/passphrase"
[ca]
ca_system_id = 0x4AD1
[[networks]]
id = "south"
"""
CHIPS = 8


def is_empty(reader: int) -> bool:
    try:
        return pcsc.list_readers()[reader].presence is CardPresence.EMPTY
    except (PcscError, IndexError):  # pcscd is being restarted
        return False


class Hand:
    """Puts chips into the two readers and takes them out when they are done, or at the wrong moment."""

    def __init__(self, ports: tuple[int, int], chips: list[Chip], seed: int, clumsy: float) -> None:
        self._box = list(chips)
        self._all = chips
        self._chance = random.Random(seed)
        self._clumsy = clumsy
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.pulled_early = 0
        self._threads = [threading.Thread(target=self._work, args=(port, n)) for n, port in enumerate(ports)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _work(self, port: int, reader: int) -> None:
        while not self._stop.is_set():
            with self._lock:
                chip = self._box.pop(0) if self._box else None
            if chip is None:
                self._stop.wait(0.05)
                continue
            finished = self._show(chip, port, reader)
            if not finished:
                with self._lock:
                    self._box.append(chip)

    def _insert(self, slot: VirtualSlot) -> None:
        while True:
            try:
                slot.insert()
            except VpcdError:  # pcscd is being restarted
                time.sleep(0.1)
            else:
                return

    def _show(self, chip: Chip, port: int, reader: int) -> bool:
        slot = VirtualSlot(chip, port=port, keep=True)
        self._insert(slot)
        early = self._chance.random() < self._clumsy
        end = time.monotonic() + (self._chance.random() * 0.6 if early else 8.0)
        while time.monotonic() < end and not self._stop.is_set():
            if chip.state.application_usable and not early:
                time.sleep(0.4)  # the number is read back
                break
            time.sleep(0.02)
        if early and not chip.state.application_usable:
            self.pulled_early += 1
        slot.remove()
        wait_until(lambda: is_empty(reader), 30, what="the reader to be empty")
        return chip.state.application_usable and not early


@pytest.fixture
def place(tmp_path: Path, pcscd):
    """Settings, master key, delivery, batch file, daemon, chips."""
    (tmp_path / "passphrase").touch(mode=0o600)
    (tmp_path / "passphrase").write_text("a passphrase for tests only")
    (tmp_path / "cad.toml").write_text(SETTINGS.format(folder=tmp_path))
    master = keystore.create(load(tmp_path / "cad.toml").keys)
    write_delivery(tmp_path / "d17.keys", delivery(CHIPS, master))
    (tmp_path / "box.toml").write_text(
        f'batch = "box-1"\noperator = "karjaa"\ncount = {CHIPS}\ntransport_keys = "d17.keys"\n'
    )
    chips = [chip_in(tmp_path, number) for number in range(CHIPS)]
    with stock_daemon(tmp_path) as daemon:
        yield tmp_path, daemon, chips, KeyLadder(master)
    for chip in chips:
        chip.close()


def start(folder: Path, pcscd, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cad", "card", "batch", str(folder / "box.toml")]
    return subprocess.Popen(
        [*command, "--config", str(folder / "cad.toml"), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**pcscd.environment, "PYTHONUNBUFFERED": "1"},
    )


def judge(folder: Path, daemon: StockDaemon, chips: list[Chip], ladder: KeyLadder) -> None:
    """Every chip is a card that works, each with a number of its own, as ledger and result file have it."""
    with (folder / "box.csv").open(newline="") as file:
        rows = {row["serial"]: row["number"] for row in csv.DictReader(file)}
    assert len(rows) == len(set(rows.values())) == len(chips)
    for number, chip in enumerate(chips):
        assert chip.state.life_cycle is CardLifeCycle.SECURED
        assert len(chip.state.key_sets) == 1
        name = serial(number).hex().upper()
        session = CardSession(chip.process)
        assert session.read_info().number == rows[name]
        address = card_number.parse(rows[name])
        for section in emm(Right(1, NOW - 100, None), address=address, ladder=ladder):
            session.process_emm(section)
        assert len(session.process_ecm(ecm(1, ladder=ladder)).words) == 2

        async def look(ledger, name=name):
            return await ledger.perform(lambda _, held: ledger_stock.find(held, name))

        known = daemon.ask(look)
        assert known.made_at is not None
        assert known.address == address


def test_a_box_in_two_readers_with_a_clumsy_hand(place, pcscd):
    folder, daemon, chips, ladder = place
    program = start(folder, pcscd, "--json", "--labels", "a4-24")
    hand = Hand(pcscd.ports, chips, seed=7, clumsy=0.5)
    try:
        out, err = program.communicate(timeout=150)
    finally:
        hand.close()
        program.kill()
    assert program.returncode == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert len({line["reader"] for line in lines if line.get("event") == "made"}) == 2
    assert lines[-1]["made"] == CHIPS
    judge(folder, daemon, chips, ladder)
    assert (folder / "box.pdf").read_bytes()[:5] == b"%PDF-"
    again = start(folder, pcscd)
    out, err = again.communicate(timeout=30)
    assert again.returncode == 0, err
    assert f"{CHIPS} of {CHIPS} cards are in stock" in out


def test_program_killed_daemon_restarted_pcscd_killed_and_the_box_is_finished(place, pcscd):
    folder, daemon, chips, ladder = place
    chance = random.Random(11)
    hand = Hand(pcscd.ports, chips, seed=3, clumsy=0.2)
    program = start(folder, pcscd)
    try:
        for _ in range(3):
            time.sleep(1.2 + chance.random())
            program.send_signal(signal.SIGKILL)
            program.communicate(timeout=20)
            program = start(folder, pcscd)
        time.sleep(1.0)
        daemon.stop()
        time.sleep(0.7)
        daemon.start()
        pcscd.kill()
        time.sleep(0.5)
        pcscd.start()
        out, err = program.communicate(timeout=200)
    finally:
        hand.close()
        program.kill()
        program.communicate()
    assert program.returncode == 0, out + err
    judge(folder, daemon, chips, ladder)


def test_ctrl_c_ends_in_order_and_the_batch_goes_on(place, pcscd):
    folder, _, chips, _ = place
    slot = VirtualSlot(chips[0], port=pcscd.ports[0])
    slot.insert()
    program = start(folder, pcscd)
    wait_until(lambda: chips[0].state.application_usable, 30, what="the first card")
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=30)
    slot.remove()
    assert program.returncode == 130, err
    assert "not complete: the same command goes on" in out
    assert f"1 of {CHIPS} cards are in stock" in out
    assert (folder / "box.csv").read_text().count("\n") == 2


def test_one_card_by_itself(place, pcscd):
    folder, _, chips, _ = place
    slot = VirtualSlot(chips[1], port=pcscd.ports[1])
    slot.insert()
    wait_until(lambda: pcsc.list_readers()[1].presence is CardPresence.PRESENT, what="the card to be seen")
    command = [sys.executable, "-m", "cad", "card", "provision", "--operator", "karjaa", "--json"]
    command += ["--transport-keys", str(folder / "d17.keys"), "--config", str(folder / "cad.toml")]
    command += ["--number", card_number.spell(500), "--issuer", "Karjaa TV"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | pcscd.environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["number"], said["already"]) == (card_number.spell(500), False)
    again = subprocess.run(command, capture_output=True, text=True, env=os.environ | pcscd.environment, cwd=folder)
    assert json.loads(again.stdout)["already"] is True
    wrong = [*command[:-4], "--number", card_number.spell(501)]
    refused = subprocess.run(wrong, capture_output=True, text=True, env=os.environ | pcscd.environment, cwd=folder)
    assert refused.returncode == 12
    assert "leave its count and first number" in refused.stderr
    slot.remove()
    assert chips[1].state.personal.identity.issuer == "Karjaa TV"
