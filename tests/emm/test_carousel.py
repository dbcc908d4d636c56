"""The carousel's rules, one at a time."""

import math

import pytest

from emm.carousel import Carousel, CarouselError, CarouselPolicy, Turn

CALM = CarouselPolicy(min_repeat_s=0.0)


def test_a_change_goes_before_everything_else() -> None:
    carousel = Carousel(CALM)
    carousel.add(1, 132, now=0.0)
    carousel.add(2, 132, now=0.0)
    carousel.change(2, 132, now=1.0, changed_at=1.0)
    assert carousel.pop(1.0) == Turn(2, "new", True)
    assert carousel.pop(1.1) in {Turn(2, "fresh", False), Turn(1, "base", False)}


def test_an_empty_carousel_has_no_turn() -> None:
    carousel = Carousel(CALM)
    assert carousel.pop(0.0) is None
    assert carousel.next_at(0.0) == math.inf
    assert carousel.oldest_new(0.0) is None
    assert carousel.shortfalls(0.0) == []


def test_a_card_alone_is_not_repeated_within_min_repeat_s() -> None:
    carousel = Carousel(CarouselPolicy(min_repeat_s=1.0))
    carousel.change(7, 132, now=0.0, changed_at=0.0)
    assert carousel.pop(0.0) == Turn(7, "new", True)
    assert carousel.pop(0.99) is None
    assert carousel.next_at(0.99) == 1.0
    assert carousel.pop(1.0) == Turn(7, "fresh", False)


def test_a_slot_is_there_once() -> None:
    carousel = Carousel(CALM)
    carousel.add(1, 132, now=0.0)
    with pytest.raises(CarouselError, match="slot 1 is in the carousel already"):
        carousel.add(1, 132, now=0.0)
    carousel.remove(1)
    with pytest.raises(CarouselError, match="slot 1 is not in the carousel"):
        carousel.remove(1)
    carousel.add(1, 132, now=0.0)
    assert 1 in carousel
    assert len(carousel) == 1
