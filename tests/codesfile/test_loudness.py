"""The loudness meter against scipy's filters, and in any partition."""

import numpy as np
import pytest
from dac_package import loudness
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.codesfile.loudness import LOWEST, LoudnessMeter


def measured(pcm: np.ndarray, rate: int, sizes: list[int]) -> float:
    meter, start = LoudnessMeter(rate), 0
    for size in [*sizes, len(pcm)]:
        meter.push(pcm[start : start + size])
        start += size
    return meter.integrated()


def passage(rate: int, seconds: float, seed: int) -> np.ndarray:
    """Noise with silences and outbursts, so that both gates matter."""
    rng = np.random.default_rng(seed)
    level = 10.0 ** rng.choice([-5, -2.5, -1, 0], int(seconds * 8) + 1)
    samples = int(seconds * rate)
    return rng.standard_normal(samples) * 0.3 * np.repeat(level, rate // 8 + 1)[:samples]


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 44100, 11025])
@pytest.mark.parametrize("seconds", [0.01, 0.3, 0.5, 1.37, 6.0])
def test_it_is_upstreams(rate, seconds):
    pcm = passage(rate, seconds, seed=1)
    assert LoudnessMeter(rate).integrated() == LOWEST
    assert measured(pcm, rate, []) == pytest.approx(loudness(pcm[None], rate), abs=1e-8)


@given(st.lists(st.integers(0, 5000), max_size=12), st.integers(0, 5))
def test_any_partition_gives_the_same(sizes, seed):
    pcm = passage(16000, 1.1, seed)
    assert measured(pcm, 16000, sizes) == pytest.approx(measured(pcm, 16000, []), abs=1e-9)


def test_a_reading_does_not_disturb_the_meter():
    pcm, meter = passage(16000, 2.0, 4), LoudnessMeter(16000)
    for part in np.array_split(pcm, 9):
        meter.push(part)
        assert meter.integrated() == meter.integrated()
    assert meter.integrated() == pytest.approx(measured(pcm, 16000, []), abs=1e-9)


def test_a_full_scale_sine_at_997_hz_is_as_loud_as_the_standard_says():
    pcm = np.sin(2 * np.pi * 997 * np.arange(48000 * 3) / 48000)
    # BS.1770-4: -3.01 LUFS. pyloudnorm's shelf begins lower than the standard's: 0.04 dB less there.
    assert measured(pcm, 48000, []) == pytest.approx(-3.01, abs=0.05)


def test_silence_has_the_lowest():
    assert measured(np.zeros(50000), 16000, []) == LOWEST
    assert measured(np.full(16000, 1e-7), 16000, []) == LOWEST


def test_a_rate_without_blocks_is_refused():
    with pytest.raises(ValueError, match="at least 10 Hz"):
        LoudnessMeter(5)
