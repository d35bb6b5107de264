"""The live resampler: the same bits however it is cut, in tune and in place, and no later than it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.resample import Resampler

RATES = [
    (48000, 24000),
    (24000, 48000),
    (44100, 24000),
    (24000, 44100),
    (8000, 24000),
    (24000, 8000),
    (16000, 24000),
    (11025, 32000),
    (96000, 16000),
    (16000, 16000),
]


def sine(frequency: float, rate: int, count: int) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(count) / rate).astype(np.float32)[None]


@given(
    pair=st.sampled_from(RATES), sizes=st.lists(st.integers(0, 300), min_size=1, max_size=20), seed=st.integers(0, 99)
)
def test_any_partition_gives_the_same_bits(pair, sizes, seed):
    source, target = pair
    samples = np.random.default_rng(seed).standard_normal((2, sum(sizes))).astype(np.float32)
    whole, resampler = Resampler(*pair, 2), Resampler(*pair, 2)
    expected = np.concatenate([whole.push(samples), whole.finish()], axis=1)
    assert expected.shape[1] == (2 * sum(sizes) * target + source) // (2 * source)
    for _ in range(2):  # after `finish` a new signal begins
        parts, at = [], 0
        for size in sizes:
            parts.append(resampler.push(samples[:, at : at + size]))
            at += size
        np.testing.assert_array_equal(np.concatenate([*parts, resampler.finish()], axis=1), expected)


@pytest.mark.parametrize("pair", RATES)
@pytest.mark.parametrize("place", [0.02, 0.3, 0.7])
def test_a_sine_keeps_its_level_and_its_place(pair, place):
    source, target = pair
    frequency = place * min(pair) / 2
    out = Resampler(source, target, 1).push(sine(frequency, source, source // 10))
    clean = slice(out.shape[1] // 4, None)  # the start hears the silence before the signal
    error = (out - sine(frequency, target, out.shape[1]))[:, clean]
    assert 10 * np.log10(np.mean(error**2) / 0.5 + 1e-12) < -66


@pytest.mark.parametrize("pair", [(48000, 24000), (44100, 24000), (96000, 16000)])
def test_what_would_alias_is_70_db_down(pair):
    source, target = pair
    out = Resampler(source, target, 1).push(sine(0.52 * target, source, source // 10))
    assert 10 * np.log10(np.mean(out[:, out.shape[1] // 4 :] ** 2) / 0.5) < -66


@pytest.mark.parametrize("pair", RATES)
def test_a_sample_comes_when_the_stated_delay_is_over(pair):
    source, target = pair
    resampler = Resampler(source, target, 1)
    delay, came = resampler.delay / source, 0
    for last in range(2000):  # the sample pushed, at last / source
        for _ in range(resampler.push(np.zeros((1, 1), np.float32)).shape[1]):
            late = last / source - came / target
            assert delay - 1e-9 <= late + 1 / source
            assert late <= delay + 1 / source
            came += 1
    assert came > 0


def test_equal_rates_pass_through():
    samples = np.random.default_rng(0).standard_normal((1, 100)).astype(np.float32)
    resampler = Resampler(24000, 24000, 1)
    assert resampler.delay == 0
    np.testing.assert_array_equal(resampler.push(samples), samples)
