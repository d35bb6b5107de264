import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec.train.augment import SLOPE, amplify, band_limit, mix, speed, stretch
from streamcodec.train.config import AugmentSettings

SETTINGS = AugmentSettings()


def _noise(seed: int, level: float, length: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (level * rng.uniform(-1, 1, length)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), level=st.sampled_from([0.0, 1e-4, 0.1, 1.0]), other=st.sampled_from([0.0, 0.01, 1.0])
)
def test_augmentations_keep_length_type_and_full_scale(seed: int, level: float, other: float) -> None:
    crop, rng = _noise(seed, level), np.random.default_rng(seed)
    for changed in (
        amplify(crop, SETTINGS, rng),
        mix(crop, _noise(seed + 1, other), SETTINGS, rng),
        band_limit(crop, 24000, SETTINGS, rng),
    ):
        assert changed.shape == crop.shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        assert np.abs(changed).max() <= 1 + 1e-6


def test_gain_lies_in_its_range_and_signs_change() -> None:
    crop = _noise(0, 0.1)
    gains = [amplify(crop, SETTINGS, np.random.default_rng(seed))[7] / crop[7] for seed in range(300)]
    decibels = 20 * np.log10(np.abs(gains))
    assert SETTINGS.gain_low - 1e-3 <= decibels.min() < SETTINGS.gain_low + 0.5
    assert SETTINGS.gain_high - 0.5 < decibels.max() <= SETTINGS.gain_high + 1e-3
    assert 0.4 < np.mean(np.array(gains) > 0) < 0.6


def test_speed_is_one_or_in_its_range() -> None:
    rng = np.random.default_rng(0)
    some = AugmentSettings(speed=0.5)
    factors = np.array([speed(some, rng) for _ in range(1000)])
    changed = factors[factors != 1]
    assert 420 < len(changed) < 580
    assert some.speed_low <= changed.min() < some.speed_low + 0.01
    assert some.speed_high - 0.01 < changed.max() <= some.speed_high
    assert speed(AugmentSettings(), rng) == 1


@pytest.mark.parametrize("given", [8160, 9599, 9600, 9601, 11520])
def test_a_crop_played_faster_is_higher_and_not_later(given: int) -> None:
    time = np.arange(given)
    crop = (0.5 * np.sin(0.1 * time)).astype(np.float32)
    played = stretch(crop, 9600)
    assert played.shape == (9600,)
    assert played.dtype == np.float32
    wanted = 0.5 * np.sin(0.1 * given / 9600 * np.arange(9600))
    np.testing.assert_allclose(played[100:-100], wanted[100:-100], atol=1e-3)
    assert np.abs(stretch(_noise(0, 1.0, given), 9600)).max() <= 1


def test_what_is_mixed_in_has_its_level() -> None:
    crop, other = _noise(1, 0.1), _noise(2, 0.9)
    for seed in range(30):
        added = mix(crop, other, SETTINGS, np.random.default_rng(seed)) - crop
        level = 10 * np.log10(np.mean(added**2) / np.mean(crop**2))
        assert SETTINGS.mix_low - 0.01 <= level <= SETTINGS.mix_high + 0.01
    assert mix(crop, np.zeros_like(crop), SETTINGS, np.random.default_rng(0)).tobytes() == crop.tobytes()


@pytest.mark.parametrize("seed", range(5))
def test_the_band_ends_at_the_cut_off(seed: int) -> None:
    narrow = AugmentSettings(cutoff_low=5000.0, cutoff_high=5000.0)
    crop = _noise(seed, 0.5, 9600)
    spectrum = np.abs(np.fft.rfft(band_limit(crop, 24000, narrow, np.random.default_rng(seed))))
    original = np.abs(np.fft.rfft(crop))
    frequencies = np.fft.rfftfreq(9600, 1 / 24000)
    low, high = frequencies < 5000, frequencies > 5000 * (1 + SLOPE) + 10
    np.testing.assert_allclose(spectrum[low], original[low], rtol=1e-3, atol=1e-3)
    assert spectrum[high].max() < 1e-3 * original.max()
