"""Changes to training audio: speed, gain, a second sound mixed in, a limited band. All keep within full scale.

Each takes its own generator's numbers, so that a crop depends on its place in the training alone. Crops are
[..., samples] float32; the channels of one change together.
"""

import numpy as np
import soxr

from .config import AugmentSettings

__all__ = ["amplify", "band_limit", "mix", "speed", "stretch"]

# Width of the cut-off's slope as a share of the cut-off: steep, as the filters of telephones and converters are, and
# wide enough not to ring for long (10% of 3.4 kHz rings for some 3 ms).
SLOPE = 0.1


def _decibels(rng: np.random.Generator, low: float, high: float) -> float:
    """A factor drawn evenly in dB."""
    return float(10 ** (rng.uniform(low, high) / 20))


def _within_full_scale(crop: np.ndarray) -> np.ndarray:
    """The crop, made quieter where it passes ±1."""
    return crop / np.float32(max(1.0, float(np.abs(crop).max(initial=0.0))))


def speed(settings: AugmentSettings, rng: np.random.Generator) -> float:
    """How many times as fast a crop is played: 1 or, by chance, a factor drawn evenly in octaves."""
    if rng.random() >= settings.speed:
        return 1.0
    return float(np.exp2(rng.uniform(np.log2(settings.speed_low), np.log2(settings.speed_high))))


def stretch(crop: np.ndarray, length: int) -> np.ndarray:
    """The crop played so that it lasts `length` samples: pitch and formants move, as with another speaker."""
    given = crop.shape[-1]
    if given == length:
        return crop
    played = soxr.resample(np.ascontiguousarray(crop.T), given, length, quality="MQ").T[..., :length]
    fitted = np.zeros((*crop.shape[:-1], length), dtype=np.float32)
    fitted[..., : played.shape[-1]] = played
    return _within_full_scale(fitted)


def amplify(crop: np.ndarray, settings: AugmentSettings, rng: np.random.Generator) -> np.ndarray:
    """Random level and sign; never past full scale."""
    gain = _decibels(rng, settings.gain_low, settings.gain_high)
    sign = 1 - 2 * int(rng.integers(2))
    return _within_full_scale(crop * np.float32(sign * gain))


def mix(crop: np.ndarray, other: np.ndarray, settings: AugmentSettings, rng: np.random.Generator) -> np.ndarray:
    """`crop` with `other` of its shape under it, at a level relative to the crop's (RMS); silence changes nothing."""
    power, other_power = float(np.mean(crop**2)), float(np.mean(other**2))
    if power == 0 or other_power == 0:
        return crop
    factor = _decibels(rng, settings.mix_low, settings.mix_high) * np.sqrt(power / other_power)
    return _within_full_scale(crop + np.float32(factor) * other)


def band_limit(crop: np.ndarray, sample_rate: int, settings: AugmentSettings, rng: np.random.Generator) -> np.ndarray:
    """The crop without what lies above a random cut-off in Hz: a zero-phase filter with a raised-cosine slope."""
    cutoff = float(rng.uniform(settings.cutoff_low, settings.cutoff_high))
    samples = crop.shape[-1]
    frequencies = np.fft.rfftfreq(samples, 1 / sample_rate)
    place = np.clip((frequencies - cutoff) / (SLOPE * cutoff), 0.0, 1.0)
    spectrum = np.fft.rfft(crop) * (0.5 + 0.5 * np.cos(np.pi * place))
    return _within_full_scale(np.fft.irfft(spectrum, samples).astype(np.float32))
