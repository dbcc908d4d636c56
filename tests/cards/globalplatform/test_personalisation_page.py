"""docs/personalisation.md says what the code does: transcript, keys, status words, figures."""

import re
from pathlib import Path

import pytest

from cards.globalplatform import card_manager, card_state
from cards.globalplatform.data_groups import Group
from cards.globalplatform.key_ring import CHANNEL_KEY_LABEL
from tests.support.gp_transcript import keys_used, status_words, transcript

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "personalisation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("part", [transcript, keys_used, status_words])
def test_the_page_holds_what_the_code_gives(part) -> None:
    assert part() in PAGE, f"put this into docs/personalisation.md:\n{part()}"


def test_every_data_group_is_on_the_page() -> None:
    assert set(re.findall(r"^\| `([0-9A-F]{4})` \|", PAGE, re.MULTILINE)) == {f"{group:04X}" for group in Group}


@pytest.mark.parametrize(
    "figure",
    [
        f"{card_state.TRIES_MAX} tries",
        f"{card_state.KEY_SETS_MAX} key sets",
        f"{card_manager.STORE_DATA_MAX} bytes",
        card_manager.MANAGER_AID.hex().upper(),
        CHANNEL_KEY_LABEL.decode(),
    ],
)
def test_figures_are_on_the_page(figure: str) -> None:
    assert figure in PAGE
