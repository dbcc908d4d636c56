"""`cad reader` and `cad card` as a technician runs them, on the real pcscd."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cad.cli.cards.report import CardDocument, CardsDocument, EventDocument, ReadersDocument
from cards import pcsc
from cards.memory.contents import CardKeys
from cards.readers.names import card_names
from cards.readers.state import CardPresence
from cards.session import CardSession
from cards.software_card import SoftwareCard
from cards.status_word import StatusWord
from emm.plan import Right
from protocol import card_number
from tests.support.cards import ADDRESS, CALENDAR, LADDER, emm
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("pcscd")]

CAD = [sys.executable, "-c", "from cad.cli.main import main; main()"]
TODAY = int(time.time())
PERIOD = CALENDAR.period(TODAY)
DAY = 86_400

SETTINGS = """
[mqtt]
host = "localhost"
port = 1883
[keys]
file = "/nonexistent/master.key"
passphrase_file = "/nonexistent/passphrase"
[ca]
ca_system_id = 0x4ADE
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
"""


@pytest.fixture
def cad(pcscd, tmp_path):
    environment = {**pcscd.environment, "TZ": "UTC", "CAD_CONFIG": ""}
    del environment["CAD_CONFIG"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*CAD, *arguments], capture_output=True, text=True, env=environment, timeout=60)

    return run


@pytest.fixture
def settings(tmp_path) -> Path:
    path = tmp_path / "cad.toml"
    path.write_text(SETTINGS)
    return path


def entitled(card: SoftwareCard) -> SoftwareCard:
    """The card with three rights: open, not yet, and one that ends soon."""
    session = CardSession(card.process)
    rights = [Right(3, 0), Right(4, TODAY + 3600), Right(5, 0, TODAY + DAY)]
    words = [session.process_emm(section) for section in emm(*rights, period=PERIOD, revision=17)]
    assert words == [StatusWord.OK]
    return card


def test_reader_list_tells_what_is_in_each_reader(cad, pcscd, make_card, insert):
    card = make_card(ADDRESS)
    insert(card)
    found = ReadersDocument.model_validate_json(cad("reader", "list", "--json").stdout)
    assert [(reader.name, reader.card, reader.application) for reader in found.readers] == [
        (pcscd.readers[0], "present", True),
        (pcscd.readers[1], "empty", None),
    ]
    assert found.readers[0].atr == card.atr.hex().upper()
    other = json.loads(cad("reader", "list", "--json", "--aid", "F000000001").stdout)
    assert other["readers"][0]["application"] is False
    table = cad("reader", "list")
    assert table.returncode == 0
    assert pcscd.readers[0] in table.stdout
    assert "of this system" in table.stdout


def test_reader_watch_tells_events_one_a_line_until_interrupted(cad, pcscd, make_card, insert):
    watch = subprocess.Popen(
        [*CAD, "reader", "watch", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=pcscd.environment
    )
    try:
        assert watch.stdout is not None
        assert [EventDocument.model_validate_json(watch.stdout.readline()).event for _ in range(2)] == [
            "reader-added"
        ] * 2
        card = make_card(ADDRESS)
        slot = insert(card)
        event = EventDocument.model_validate_json(watch.stdout.readline())
        assert (event.event, event.reader, event.application) == ("card-inserted", pcscd.readers[0], True)
        assert event.atr == card.atr.hex().upper()
        slot.remove()
        assert EventDocument.model_validate_json(watch.stdout.readline()).event == "card-removed"
        watch.send_signal(signal.SIGINT)
        rest, errors = watch.communicate(timeout=20)
        assert (watch.returncode, rest, errors) == (0, b"", b"")
    finally:
        watch.kill()
        watch.wait()


def test_reader_watch_goes_on_when_pcscd_dies(cad, pcscd):
    watch = subprocess.Popen([*CAD, "reader", "watch"], stdout=subprocess.PIPE, env=pcscd.environment, text=True)
    try:
        assert watch.stdout is not None
        assert [watch.stdout.readline().split("  ")[2].strip() for _ in range(2)] == ["reader connected"] * 2
        pcscd.kill()
        lost = watch.stdout.readline()
        assert "PC/SC is not available" in lost
        assert "systemctl" in lost
        pcscd.start()
        lines = [watch.stdout.readline() for _ in range(5)]
        assert "PC/SC is available again" in lines[2]
        assert sum("reader connected" in line for line in lines) == 2
    finally:
        watch.kill()
        watch.communicate()


def test_reader_watch_ends_by_itself_after_the_time_given(cad):
    done = cad("reader", "watch", "--for", "0.5", "--json")
    assert done.returncode == 0
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["reader-added"] * 2


def test_card_read_tells_number_state_versions_and_rights(cad, pcscd, make_card, insert, settings):
    insert(entitled(make_card(ADDRESS)))
    done = cad("card", "read", "--json", "--config", str(settings))
    assert done.returncode == 0, done.stderr
    card = CardDocument.model_validate_json(done.stdout)
    assert (card.reader, card.number, card.state) == (pcscd.readers[0], card_number.spell(ADDRESS), "active")
    assert card.versions.unique is not None
    assert (card.versions.unique.period, card.versions.unique.revision) == (PERIOD, 17)
    rights = {right.product_id: right for right in card.rights}
    assert (rights[3].product, rights[3].network, rights[3].services) == ("sports", "town", ["Sport One"])
    assert (rights[3].now, rights[3].starts_at) == ("open", None)
    assert (rights[4].now, rights[4].product) == ("later", None)
    assert rights[5].ends_at == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(TODAY + DAY))


def test_card_read_speaks_to_people(cad, make_card, insert, settings):
    card = entitled(make_card(ADDRESS))
    insert(card)
    done = cad("card", "read", "--config", str(settings))
    assert done.returncode == 0, done.stderr
    number = card_number.spell(ADDRESS)
    for words in (f"{number[:4]} {number[4:8]} {number[8:]}", "active", "revision 17", "sports (3)", "Sport One",
                  "already", "not yet", "open", "none yet"):  # fmt: skip
        assert words in done.stdout
    assert time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(TODAY + DAY)) in done.stdout
    keys = card.memory.keys
    for secret in (
        keys.card_key,
        keys.group_key,
        keys.global_key,
        *[p.keys[0] for r in card.memory.rights for p in r.products],
    ):
        assert secret.hex() not in done.stdout.lower()


def test_card_read_reads_all_readers_at_once(cad, pcscd, make_card, insert):
    insert(entitled(make_card(ADDRESS)), 0)
    insert(make_card(ADDRESS + 1), 1)
    done = cad("card", "read", "--all", "--json")
    assert done.returncode == 0, done.stderr
    found = CardsDocument.model_validate_json(done.stdout)
    assert [(card.address, card.state) for card in found.cards] == [(ADDRESS, "active"), (ADDRESS + 1, "blank")]
    ambiguous = cad("card", "read")
    assert ambiguous.returncode == 10
    assert "--reader" in ambiguous.stderr
    one = cad("card", "read", "--reader", pcscd.readers[1][-5:], "--json")
    assert json.loads(one.stdout)["address"] == ADDRESS + 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["card", "read"], "no card in any reader"),
        (["card", "read", "--all"], "no card in any reader"),
        (["card", "read", "--reader", "absent"], "no reader named 'absent'"),
        (["card", "read", "--reader", "cad test"], "fits several readers"),
    ],
)
def test_a_missing_card_or_reader_is_said_with_exit_code_10(cad, arguments, words):
    done = cad(*arguments)
    assert (done.returncode, done.stdout) == (10, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_card_of_another_system_is_said_with_exit_code_10(cad, make_card, insert):
    insert(make_card(ADDRESS))
    done = cad("card", "read", "--aid", "F000000001")
    assert done.returncode == 10
    assert "no application F000000001" in done.stderr
    both = cad("card", "read", "--all", "--json", "--aid", "F000000001")
    assert both.returncode == 10
    assert len(CardsDocument.model_validate_json(both.stdout).failures) == 1


HOLDER = """
import sys
from cards import pcsc
with pcsc.connect(sys.argv[1]) as connection, connection.transaction():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_program_that_holds_the_card_is_named_and_the_card_read_when_it_lets_go(cad, pcscd, make_card, insert):
    insert(make_card(ADDRESS))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, pcscd.readers[0]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=pcscd.environment,
    ) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            done = cad("card", "read")
            assert done.returncode == 10
            assert "another program uses the card alone" in done.stderr
            assert f"(process {holder.pid})" in done.stderr
            holder.communicate(timeout=30)
        finally:
            holder.kill()
    assert cad("card", "read").returncode == 0


class Stranger:
    """A card of which only the answer to reset is of interest."""

    atr = bytes.fromhex("3B6400FF806202A2")

    def reset(self) -> None:
        pass

    def process(self, command: bytes) -> bytes:
        return b"\x6a\x82"


def test_a_card_of_another_system_is_named_by_its_answer_to_reset(cad, insert):
    insert(Stranger())
    known_as = card_names(Stranger.atr)
    assert known_as, "pcsc-tools knows this one"
    found = json.loads(cad("reader", "list", "--json").stdout)["readers"][0]
    assert (found["application"], found["known_as"]) == (False, list(known_as))
    assert "perhaps:" in cad("reader", "list").stdout
    refused = cad("card", "read")
    assert refused.returncode == 10
    assert f"it may be: {known_as[0]}" in refused.stderr


def test_no_pcscd_is_said_with_exit_code_10_and_what_to_do(cad, pcscd):
    pcscd.kill()
    done = cad("card", "read")
    assert done.returncode == 10
    assert "does not answer" in done.stderr
    assert "systemctl" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["card", "read", "--aid", "xyz"], 2),
        (["card", "read", "--aid", "F0"], 2),
        (["card", "read", "--all", "--reader", "x"], 2),
        (["reader", "list", "--config", "/nonexistent/cad.toml"], 3),
        (["card", "soft", "/nonexistent/card"], 10),
        (["card", "soft", "/tmp/never-made", "--create", "123"], 11),
        (["card", "soft", "/tmp/never-made", "--create", card_number.spell(ADDRESS)], 2),
    ],
)
def test_the_other_exit_codes_are_as_documented(cad, arguments, code):
    done = cad(*arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_card_soft_runs_a_card_from_its_file_until_told_to_stop(cad, pcscd, tmp_path):
    path = tmp_path / "card"
    SoftwareCard.create(path, ADDRESS, CardKeys.derive(LADDER, ADDRESS)).close()
    soft = subprocess.Popen(
        [*CAD, "card", "soft", str(path), "--port", str(pcscd.ports[1])],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert soft.stdout is not None
        assert card_number.spell(ADDRESS) in soft.stdout.readline()
        wait_until(lambda: pcsc.list_readers()[1].presence is CardPresence.PRESENT, what="the card to be seen")
        with pcsc.connect(pcscd.readers[1]) as connection:
            session = CardSession(connection.transmit)
            assert session.process_emm(emm(Right(3, 0))[0]) is StatusWord.OK
        second = cad("card", "soft", str(path))
        assert second.returncode == 10
        assert "used by another program" in second.stderr
        soft.terminate()
        assert "the card is out" in soft.communicate(timeout=20)[0]
        assert soft.returncode == 0
    finally:
        soft.kill()
        soft.wait()
    with SoftwareCard.open(path) as card:
        assert card.memory.state == 0


def test_card_soft_makes_a_card_with_the_keys_of_the_settings(cad, pcscd, tmp_path, settings):
    from cad import keystore
    from config.load import load
    from emm.keys import KeyLadder

    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery staple")
    passphrase.chmod(0o600)
    text = SETTINGS.replace("/nonexistent/master.key", str(tmp_path / "master.key"))
    settings.write_text(text.replace("/nonexistent/passphrase", str(passphrase)))
    assert cad("keys", "init", "--config", str(settings)).returncode == 0
    path = tmp_path / "new-card"
    command = ["card", "soft", str(path), "--create", card_number.spell(ADDRESS), "--config", str(settings)]
    done = cad(*command, "--port", "1")  # nobody listens there: the card is made, and does not get in
    assert done.returncode == 10
    assert "no virtual reader listens" in done.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    ladder = KeyLadder(keystore.load(load(settings).keys))
    with SoftwareCard.open(path) as card:
        assert card.memory.keys == CardKeys.derive(ladder, ADDRESS)
    again = cad(*command)
    assert again.returncode == 10
    assert "exists already" in again.stderr
