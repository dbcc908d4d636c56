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


def test_the_earliest_change_goes_first_however_they_arrive() -> None:
    carousel = Carousel(CALM)
    for slot, changed_at in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 3.0)):
        carousel.change(slot, 132, now=5.0, changed_at=changed_at)
    assert [carousel.pop(5.0).slot for _ in range(4)] == [2, 3, 1, 4]  # type: ignore[union-attr]


def test_a_second_change_while_waiting_keeps_the_place_and_takes_the_size() -> None:
    carousel = Carousel(CALM)
    carousel.change(1, 132, now=0.0, changed_at=0.0)
    carousel.change(2, 132, now=1.0, changed_at=1.0)
    carousel.change(1, 264, now=2.0, changed_at=2.0)
    assert carousel.oldest_new(3.0) == 3.0
    place = carousel.place(1)
    assert place is not None
    assert (place.ring, place.size, place.sent_at, place.changed_at) == ("new", 264, None, 0.0)
    assert carousel.pop(3.0) == Turn(1, "new", True)


def test_a_card_ages_from_fresh_to_hour_to_base() -> None:
    carousel = Carousel(CarouselPolicy(min_repeat_s=30.0))
    carousel.change(1, 132, now=0.0, changed_at=0.0)
    rings = [turn.ring for turn in (carousel.pop(float(now)) for now in range(0, 3800, 40)) if turn]
    # The ring it is taken from: it moves when it is sent at an age that belongs to the next.
    assert rings == ["new"] + ["fresh"] * 8 + ["hour"] * 82 + ["base"] * 4


def test_a_restored_card_is_due_at_once_and_is_no_first_transmission() -> None:
    carousel = Carousel(CALM)
    carousel.add(1, 132, now=0.0)
    carousel.restore(2, 132, now=0.0, changed_at=-600.0)
    assert carousel.pop(0.0) == Turn(2, "hour", False)


def test_repeats_that_are_due_keep_their_share_beside_never_sent() -> None:
    carousel = Carousel(CarouselPolicy(min_repeat_s=0.0, new_share=0.8))
    for slot in range(1000):
        carousel.restore(slot, 132, now=0.0, changed_at=0.0)
    for slot in range(1000, 2000):
        carousel.change(slot, 132, now=0.0, changed_at=0.0)
    firsts = [carousel.pop(0.0).first for _ in range(1000)]  # type: ignore[union-attr]
    assert sum(firsts) in {800, 801}
    assert all(any(not first for first in firsts[start : start + 6]) for start in range(994))


def test_never_sent_take_everything_while_nothing_is_due() -> None:
    carousel = Carousel(CarouselPolicy(min_repeat_s=0.0))
    carousel.add_many(range(1000), [132] * 1000, now=0.0)
    for slot in range(100):
        carousel.change(slot, 132, now=0.1, changed_at=0.1)
    assert all(carousel.pop(0.1 + i / 1000).first for i in range(100))  # type: ignore[union-attr]


def test_what_the_new_lane_cannot_keep_waits_in_bulk_and_an_order_overtakes_a_mass_change() -> None:
    rate_bps = 100_000
    carousel = Carousel(CALM)
    carousel.set_rate(rate_bps)
    for slot in range(1000):
        carousel.change(slot, 132, now=0.0, changed_at=0.0, urgent=False)
    alone = carousel.forecast(0.0, 132, rate_bps).first_s
    carousel.change(5000, 132, now=0.0, changed_at=0.0)
    assert alone < 1.0
    assert carousel.pop(0.0) == Turn(5000, "new", True)
    for slot in range(6000, 8000):
        carousel.change(slot, 132, now=0.0, changed_at=0.0)
    rings = {facts.name: facts.cards for facts in carousel.cycle_facts(rate_bps)}
    assert 500 < rings["new"] < 650
    assert rings["new"] + rings["bulk"] == 3000
    assert carousel.forecast(0.0, 132, rate_bps).first_s > 10.0


def test_an_order_for_a_card_waiting_in_bulk_moves_it_up() -> None:
    carousel = Carousel(CALM)
    carousel.change(1, 132, now=0.0, changed_at=0.0, urgent=False)
    carousel.change(2, 132, now=0.0, changed_at=0.0, urgent=False)
    carousel.change(2, 132, now=1.0, changed_at=1.0)
    assert carousel.pop(1.0) == Turn(2, "new", True)
    assert carousel.pop(1.0) == Turn(1, "bulk", True)


def test_bulk_has_its_share_beside_the_new_lane() -> None:
    carousel = Carousel(CarouselPolicy(bulk_share=0.2))
    for slot in range(100):
        carousel.change(slot, 132, now=0.0, changed_at=0.0, urgent=False)
    for slot in range(100, 1000):
        carousel.change(slot, 132, now=0.0, changed_at=0.0)
    rings = [carousel.pop(0.0).ring for _ in range(500)]  # type: ignore[union-attr]
    assert rings.count("bulk") == 100


def test_a_purged_queue_is_sent_again_first_of_all_and_in_order() -> None:
    carousel = Carousel(CALM)
    for slot in (3, 1, 2):
        carousel.change(slot, 132, now=0.0, changed_at=float(-slot))
    sent = [carousel.pop(float(10 + i)).slot for i in range(3)]  # type: ignore[union-attr]
    assert sent == [3, 2, 1]
    carousel.change(9, 132, now=13.0, changed_at=13.0)
    carousel.remove(2)
    assert carousel.resend_since(10.5, now=14.0) == 1
    assert carousel.resend_since(0.0, now=14.0) == 1
    assert [carousel.pop(14.0) for _ in range(3)] == [Turn(3, "new", True), Turn(1, "new", True), Turn(9, "new", True)]


def test_a_slot_removed_and_taken_again_is_not_sent_again_for_its_predecessor() -> None:
    carousel = Carousel(CALM)
    carousel.change(1, 132, now=0.0, changed_at=0.0)
    carousel.pop(0.0)
    carousel.remove(1)
    carousel.add(1, 132, now=1.0)
    assert carousel.resend_since(0.0, now=2.0) == 0


def test_a_clock_that_falls_back_stops_nothing() -> None:
    carousel = Carousel(CarouselPolicy(min_repeat_s=1.0))
    carousel.add(1, 132, now=10_000.0)
    assert carousel.pop(10_001.0) == Turn(1, "base", False)
    assert carousel.pop(2_000.0) is None
    assert carousel.next_at(2_000.0) == 2_001.0
    assert carousel.pop(2_001.0) == Turn(1, "base", False)
    carousel.change(1, 132, now=2_002.0, changed_at=10_002.0)
    assert carousel.oldest_new(2_003.0) == 1.0
    place = carousel.place(1)
    assert place is not None
    assert place.sent_at == 2_001.0


@pytest.mark.parametrize("size", [0, -1, 65_536])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    carousel = Carousel(CALM)
    with pytest.raises(CarouselError, match=r"sizes lie in 1\.\.65535"):
        carousel.add(1, size, now=0.0)
    with pytest.raises(CarouselError, match=r"sizes lie in 1\.\.65535"):
        carousel.add_many([1], [size], now=0.0)
    assert len(carousel) == 0


def test_add_many_is_add_one_after_the_other() -> None:
    sizes = [60, 200, 132, 300, 600, 128, 129, 2000]
    one, many = Carousel(CALM), Carousel(CALM)
    for carousel in (one, many):
        carousel.add(50, 100, now=0.0)
    for slot, size in enumerate(sizes):
        one.add(slot, size, now=1.0)
    many.add_many(range(len(sizes)), sizes, now=1.0)
    assert [one.pop(2.0 + i) for i in range(40)] == [many.pop(2.0 + i) for i in range(40)]


@pytest.mark.parametrize("slots", [[1, 1], [2, 7], [-1, 3], [2**32, 3]])
def test_add_many_refuses_what_is_there_or_cannot_be_and_takes_nothing(slots: list[int]) -> None:
    carousel = Carousel(CALM)
    carousel.add(7, 132, now=0.0)
    with pytest.raises(CarouselError):
        carousel.add_many(slots, [132, 132], now=0.0)
    assert len(carousel) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"new_share": 1.0}, {"bulk_share": 0.0}, {"cycle_s": 30.0}, {"min_repeat_s": 60.0}, {"fresh_s": 7200.0}],
)
def test_a_policy_that_contradicts_itself_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(CarouselError):
        CarouselPolicy(**wrong)


@pytest.mark.slow
def test_the_square_root_rule_sets_the_spacing() -> None:
    policy = CarouselPolicy(min_repeat_s=0.0, fresh_s=0.0, first_hour_s=1e9, hour_demand=100.0)
    carousel = Carousel(policy)
    for slot in range(10):
        carousel.restore(slot, 132, now=0.0, changed_at=0.0)
    carousel.add_many(range(10, 1000), [132] * 990, now=0.0)
    turns = [carousel.pop(i * 0.01) for i in range(60_000)]
    counts = [0] * 1000
    for turn in turns[20_000:]:
        assert turn is not None
        counts[turn.slot] += 1
    hot, cold = sum(counts[:10]) / 10, sum(counts[10:]) / 990
    assert hot / cold == pytest.approx(math.sqrt(100.0), rel=0.02)
    facts = {ring.name: ring.cycle_s for ring in carousel.cycle_facts(132 * 8 / 0.01)}
    assert facts["hour"] == pytest.approx(400 / hot, rel=0.02)
    assert facts["base"] == pytest.approx(400 / cold, rel=0.02)


def test_first_transmissions_are_remembered_for_two_minutes_before_the_last_also_through_a_long_pause() -> None:
    carousel = Carousel(CALM)
    for slot, at in ((1, 0.0), (2, 100.0), (3, 130.0)):
        carousel.change(slot, 132, now=at, changed_at=at)
        assert carousel.pop(at) == Turn(slot, "new", True)
    assert carousel.resend_since(0.0, now=3_000.0) == 2
    assert [carousel.pop(3_000.0), carousel.pop(3_000.0)] == [Turn(2, "new", True), Turn(3, "new", True)]
