"""`python -m tests.support.commit_for_ever FOLDER FIRST`: commits small batches until killed; tells each commit."""

import itertools
import json
import sys
from pathlib import Path

from tests.support.ledgers import NOW, assign, open_store, order, take


def main(folder: Path, first: int) -> None:
    store = open_store(folder, now=NOW)
    take(store, *(assign(f"assign-{card}", card=card) for card in range(10)))
    print("ready", flush=True)
    numbers = itertools.count(first)
    while True:
        batch = list(itertools.islice(numbers, 1 + first % 7))
        orders = [order("karjaa", "card", "refresh", f"id-{number}", card=number % 10) for number in batch]
        for number, outcome in zip(batch, take(store, *orders), strict=True):
            change = outcome.card_changes[0]
            print(json.dumps({"number": number, "card": change.address, "revision": change.revision}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
