"""A box of chips becomes a box of cards (M5): the real pcscd, two readers at once, a real ledger, a clumsy hand."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cad import keystore
from cad.cli.shell.exit_codes import ExitCode
from cad.ledger.acts import stock as ledger_stock
from cad.stock.transport_keys import write_delivery
from cards import pcsc
from cards.globalplatform.card_state import TRIES_MAX
from cards.globalplatform.chip import Chip
from cards.globalplatform.commands import CardLifeCycle
from cards.readers.state import CardPresence
from cards.session import CardSession
from cards.vpcd import VirtualSlot
from config.load import load
from emm.keys import KeyLadder
from emm.plan import Right
from protocol import card_number
from tests.support.batch_hand import BatchProgram, Hand, batch_program
from tests.support.cards import NOW, ecm, emm
from tests.support.globalplatform import POLICY, TRANSPORT, static_keys
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
CHIPS = 6
PATIENCE_S = 120.0


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
    hand = Hand(pcscd, chips, seed=7, clumsy=0.5)
    with batch_program(folder, pcscd, "--labels", "a4-24", told=hand.hear) as program:
        with hand:
            code = program.finish(PATIENCE_S)
        assert code == ExitCode.OK, str(program)
    assert hand.slips
    assert {line["reader"] for line in program.said if line.get("event") == "made"} == set(pcscd.readers)
    assert program.said[-1]["made"] == CHIPS
    judge(folder, daemon, chips, ladder)
    assert (folder / "box.pdf").read_bytes()[:5] == b"%PDF-"
    with batch_program(folder, pcscd) as again:
        assert again.finish(PATIENCE_S) == ExitCode.OK
    assert [line["made"] for line in again.said] == [CHIPS]


def test_program_killed_daemon_restarted_pcscd_killed_and_the_box_is_finished(place, pcscd):
    folder, daemon, chips, ladder = place
    with Hand(pcscd, chips, seed=3, clumsy=0.2) as hand:
        for steps in (1, 4, 6):  # killed at a step of the cards' making
            with batch_program(folder, pcscd, told=hand.hear) as program:
                wait_until(lambda: has_said(program, "step", steps), PATIENCE_S, lambda: str(program))  # noqa: B023
        with batch_program(folder, pcscd, told=hand.hear) as program:
            wait_until(lambda: has_said(program, "working"), PATIENCE_S, lambda: str(program))
            daemon.stop()
            time.sleep(0.7)
            daemon.start()
            pcscd.kill()
            wait_until(lambda: has_said(program, "service-lost"), PATIENCE_S, lambda: str(program))
            pcscd.start()
            code = program.finish(PATIENCE_S)
        assert code == ExitCode.OK, str(program)
    judge(folder, daemon, chips, ladder)


def has_said(program: BatchProgram, event: str, times: int = 1) -> bool:
    """Whether the program has told such an event so often; a program that has ended will not."""
    assert program.process.poll() is None, f"the batch ended: {program}"
    return sum(line.get("event") == event for line in program.said) >= times


def test_ctrl_c_ends_in_order_and_the_batch_goes_on(place, pcscd):
    folder, _, chips, _ = place
    slot = VirtualSlot(chips[0], port=pcscd.ports[0])
    slot.insert()
    command = [sys.executable, "-m", "cad", "card", "batch", str(folder / "box.toml")]
    with subprocess.Popen(
        [*command, "--config", str(folder / "cad.toml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**pcscd.environment, "PYTHONUNBUFFERED": "1"},
    ) as program:
        try:
            wait_until(lambda: chips[0].state.application_usable, PATIENCE_S, what="the first card")
            program.send_signal(signal.SIGINT)
            out, err = program.communicate(timeout=PATIENCE_S)
        finally:
            program.kill()
            slot.remove()
    assert program.returncode == ExitCode.ABORTED, err
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


def test_wrong_keys_cost_no_try_and_a_blocked_chip_is_told_apart_from_a_foreign_one(place, pcscd):
    """The same wrong command three times over: the chip is put aside at the first, and not asked again."""
    folder, _, chips, _ = place
    settings = load(folder / "cad.toml")
    master = keystore.load(settings.keys)
    wrong = delivery(CHIPS, master)
    wrong.put(serial(0).hex().upper(), static_keys(TRANSPORT, b"of another chip"))
    write_delivery(folder / "wrong.keys", wrong)
    write_delivery(folder / "other.keys", delivery(1, master))

    def provision(keys: str, chip: Chip) -> str:
        with VirtualSlot(chip, port=pcscd.ports[0]):
            wait_until(lambda: pcsc.list_readers()[0].presence is CardPresence.PRESENT, what="the card to be seen")
            command = [sys.executable, "-m", "cad", "card", "provision", "--operator", "karjaa", "--config"]
            command += [str(folder / "cad.toml"), "--transport-keys", str(folder / keys)]
            done = subprocess.run(command, capture_output=True, text=True, env=pcscd.environment, cwd=folder)
        wait_until(lambda: pcsc.list_readers()[0].presence is CardPresence.EMPTY, what="the reader to be empty")
        assert done.returncode == ExitCode.CARD, done.stderr
        return done.stderr

    said = [provision("wrong.keys", chips[0]) for _ in range(3)]
    assert "our key set 30 is not the one on this card" in said[0]
    assert all("was put aside" in words for words in said[1:])
    assert [one.tries_left for one in chips[0].state.key_sets] == [TRIES_MAX]
    assert "is not in delivery" in provision("other.keys", chips[1])
    blocked = chips[2].state
    blocked = replace(blocked, key_sets=(replace(blocked.key_sets[0], tries_left=0),))
    chips[2]._manager_file.write(blocked.encode())
    chips[2].close()
    chips[2] = Chip.open(folder / "chip-2", POLICY)
    assert "blocked key set 30" in provision("d17.keys", chips[2])
