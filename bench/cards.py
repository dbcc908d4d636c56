"""How fast cards are made, through the real pcscd and a real ledger, and how fast a token derives keys.

The chips are software: what is measured is everything but the card's own silicon and the hand that changes cards.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Final

from cad.cli.shell.client import DaemonClient
from cad.stock.desk import DaemonNumbers
from cad.stock.journal import Journal
from cad.stock.line import News, ProductionLine
from cad.stock.maker import Keys, Maker
from cards.application import DEFAULT_AID
from cards.globalplatform.chip import Chip
from cards.vpcd import VirtualSlot
from emm.keys import KeyLadder, LocalMasterKey
from emm.ports import MasterKey
from emm.secret import Secret
from tests.support.pcscd import Pcscd, running_pcscd
from tests.support.softhsm import MODULE, PIN, SoftHsm
from tests.support.stock import MASTER, chip_in, delivery, order
from tests.support.stock_daemon import stock_daemon

AIMS: Final[dict[str, tuple[float, str]]] = {
    "personalise_s_per_card": (1.0, "max"),
    "cards_per_hour_two_readers": (1200.0, "min"),
    # A card key for each EMM: 3 Mbit/s, the most that multiplexers take, are 2,900 EMMs of 128 bytes a second.
    "kdf_per_s_pkcs11": (3_000.0, "min"),
}
CHIPS: Final = 30
KDF_SECONDS: Final = 1.5


def run() -> dict[str, float]:
    """Measure cards one by one in one reader, cards in two readers at the same time, and card keys from a token."""
    with tempfile.TemporaryDirectory(prefix="cad-bench-") as folder:
        return _cards(Path(folder)) | {"kdf_per_s_pkcs11": _kdf(Path(folder))}


def _cards(folder: Path) -> dict[str, float]:
    from cards import pcsc

    chips = [chip_in(folder, number) for number in range(2 * CHIPS)]
    with running_pcscd() as pcscd, stock_daemon(folder) as daemon:
        client = DaemonClient(daemon.socket)
        numbers = DaemonNumbers(client)
        keys = Keys(LocalMasterKey(MASTER), delivery(2 * CHIPS), os.urandom)
        with Journal.open(folder / "journal", lambda: "") as journal:
            maker = Maker(order(2 * CHIPS), DEFAULT_AID, keys, numbers, journal)
            maker.begin()
            took = 0.0
            for chip in chips[:CHIPS]:
                with VirtualSlot(chip, port=pcscd.ports[0]):
                    _until(lambda: bool(pcsc.list_readers()[0].atr))
                    start = perf_counter()
                    with pcsc.connect(pcscd.readers[0], exclusive=True) as card:
                        maker.make(card.transmit, "one")
                    took += perf_counter() - start
                _until(lambda: not pcsc.list_readers()[0].atr)
            start = perf_counter()
            _line(maker, pcscd, chips[CHIPS:])
            parallel = perf_counter() - start
        client.close()
    return {"personalise_s_per_card": took / CHIPS, "cards_per_hour_two_readers": CHIPS * 3600 / parallel}


def _line(maker: Maker, pcscd: Pcscd, chips: list[Chip]) -> None:
    from cards import pcsc
    from cards.readers.watch import ReaderWatch

    made = {name: threading.Event() for name in pcscd.readers}

    def tell(news: News) -> None:
        if news.card is not None:
            made[news.reader].set()

    def hand(reader: int, mine: list[Chip]) -> None:
        for chip in mine:
            made[pcscd.readers[reader]].clear()
            with VirtualSlot(chip, port=pcscd.ports[reader]):
                assert made[pcscd.readers[reader]].wait(60)
            _until(lambda: not pcsc.list_readers()[reader].atr)

    hands = [threading.Thread(target=hand, args=(reader, chips[reader::2])) for reader in range(2)]
    for one in hands:
        one.start()
    line = ProductionLine(
        maker, lambda name: pcsc.connect(name, exclusive=True), lambda told: ReaderWatch(pcsc.Context, told), tell
    )
    line.run(2 * CHIPS)
    for one in hands:
        one.join()


def _kdf(folder: Path) -> float:
    from cad.token_keystore import Token, TokenMasterKey

    hsm = SoftHsm(folder)
    hsm.make("bench")
    os.environ["SOFTHSM2_CONF"] = hsm.environment["SOFTHSM2_CONF"]
    token = Token(MODULE, "bench", "cad master key", Secret(PIN.encode()))
    token.make()
    return _card_keys_per_s(TokenMasterKey(token.key, time.monotonic))


def _card_keys_per_s(master: MasterKey) -> float:
    ladder, done, start = KeyLadder(master), 0, perf_counter()
    while (elapsed := perf_counter() - start) < KDF_SECONDS:
        for _ in range(100):
            ladder.card_key(done, 1)
            done += 1
    return done / elapsed


def _until(look: Callable[[], bool]) -> None:
    end = perf_counter() + 30
    while not look():
        assert perf_counter() < end, "the reader did not notice"
        time.sleep(0.005)
