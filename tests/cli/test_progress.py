"""Rates, times left and sums of transfers: numbers against a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.cli.progress import SPAN, WINDOW, Rate, Tally, duration_text, left_text, rate_text
from ollama_nb.client.models import Progress


def rate_of(samples):
    rate = Rate()
    for now, completed in samples:
        rate.add(now, completed)
    return rate


def test_a_steady_transfer_has_its_rate_and_its_time_left():
    rate = rate_of((100 + tick / 10, 1_000 * tick) for tick in range(31))
    assert rate.per_second() == pytest.approx(10_000)
    assert rate.seconds_left(50_000) == pytest.approx(2.0)


def test_what_was_there_at_first_is_not_counted():
    assert rate_of([(0, 1_000_000), (1, 1_000_500)]).per_second() == pytest.approx(500)


@pytest.mark.parametrize("samples", [[], [(5, 10)], [(5, 10), (5, 20)], [(5, 10), (5 + SPAN / 2, 20)]])
def test_there_is_no_rate_before_there_is_time_to_tell(samples):
    assert rate_of(samples).per_second() is None
    assert rate_of(samples).seconds_left(100) is None


def test_a_rate_follows_a_change_within_its_window():
    fast = [(tick / 10, 1_000_000 * tick) for tick in range(101)]
    slow = [(10 + tick / 10, 100_000_000 + 100 * tick) for tick in range(1, 10 * int(WINDOW) + 1)]
    assert rate_of(fast + slow).per_second() == pytest.approx(1_000)


def test_a_transfer_that_stands_still_has_no_time_left():
    rate = rate_of((now, 1_000) for now in range(20))
    assert (rate.per_second(), rate.seconds_left(2_000)) == (0.0, None)


def test_a_piece_that_has_to_come_again_makes_no_negative_rate():
    assert rate_of([(0, 0), (1, 100), (2, 50)]).per_second() is None
    assert rate_of([(0, 0), (1, 100), (2, 50), (3, 80)]).per_second() == pytest.approx(30)


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 10**9)), max_size=50))
def test_a_rate_is_never_negative_nor_faster_than_its_fastest_second(steps):
    rate, now, completed = Rate(), 0.0, 0
    fastest = 0.0
    for pause, more in steps:
        now, completed = now + pause, completed + more
        fastest = max(fastest, more / max(pause, 1e-9))
        rate.add(now, completed)
        speed = rate.per_second()
        assert speed is None or 0 <= speed <= max(fastest, completed / SPAN) * 1.000001


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (12.3, "12 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_as_exact_as_a_reader_needs(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s left"), (4, "4 s left"), (8.9, "9 s left"), (59.5, "1 min 0 s left")]
)
def test_time_left_is_told_in_whole_seconds(seconds, text):
    assert left_text(seconds) == text


def test_rates_have_the_units_of_sizes():
    assert [rate_text(rate) for rate in (0.5, 999, 8_200_000, 98e6)] == ["0 B/s", "999 B/s", "8.2 MB/s", "98 MB/s"]


def step(digest, completed, total):
    return Progress(status=f"pulling {digest}", digest=digest, completed=completed, total=total)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([], "0 B, up to date"),
        ([step("a", 0, 98_400_000), step("a", 98_400_000, 98_400_000)], "98 MB in 10 s (9.8 MB/s)"),
        ([step("a", 78_400_000, 98_400_000), step("a", 98_400_000, 98_400_000)], "98 MB in 10 s (2 MB/s)"),
        ([step("a", 98_400_000, 98_400_000)], "98 MB, up to date"),
        (
            [step("a", 0, 10), step("b", 5, 990), step("a", 10, 10), Progress(status="x"), step("b", 990, 990)],
            "1 KB in 10 s (99 B/s)",
        ),
        ([step("a", 50, 100), step("a", 20, 100)], "100 B, up to date"),
    ],
)
def test_a_transfer_is_summed_up_without_what_was_there_before(steps, text):
    tally = Tally()
    for each in steps:
        tally.add(each)
    assert tally.text(10.0) == text
