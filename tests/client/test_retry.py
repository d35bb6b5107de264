"""Back-off, on a clock of its own."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.client.retry import MOST_SECONDS, Retry


@given(seed=st.integers(0, 10**6), seconds=st.floats(0.5, 300), took=st.floats(0, 0.5))
def test_waits_grow_to_a_bound_and_end_with_the_time(seed, seconds, took):
    """took: what each attempt takes."""
    now, waits = 1000.0, []
    retry = Retry(now + seconds, random.Random(seed).uniform)
    while (wait := retry.wait(now)) is not None:
        assert now + wait <= 1000 + seconds + 1e-9
        waits.append(wait)
        now += wait + took
    assert now >= 1000 + seconds - 1e-9, "it gives up at the end and not before"
    for place, wait in enumerate(waits[:-1]):  # the last one is cut so as to end in time
        bound = min(MOST_SECONDS, 0.1 * 2**place)
        assert bound / 2 <= wait <= bound


def test_what_the_other_end_asks_for_is_respected():
    retry = Retry(100.0, lambda low, high: high)
    assert retry.wait(0.0, 7.5) == 7.5
    assert retry.wait(0.0, 0.01) == pytest.approx(0.2)
    assert retry.wait(99.0, 2.0) is None, "that would be too late"


def test_a_time_of_nothing_allows_no_second_attempt():
    assert Retry(5.0).wait(5.0) is None


def test_after_a_success_waits_begin_short_again():
    retry = Retry(100.0, lambda low, high: high)
    assert [retry.wait(0.0) for _ in range(3)] == pytest.approx([0.1, 0.2, 0.4])
    retry.restart()
    assert retry.wait(0.0) == pytest.approx(0.1)
