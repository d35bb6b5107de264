"""SI-SDR and mel distance."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec import metrics
from streamcodec.errors import ShapeError
from streamcodec.metrics import MelDistance, SiSdr, mel_distance, mel_filterbank, si_sdr


def pair(channels: int, samples: int, seed: int = 0, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal((channels, samples)).astype(np.float32) * 0.2
    return reference, reference + noise * rng.standard_normal((channels, samples)).astype(np.float32)


def naive_si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    s = (reference - reference.mean(1, keepdims=True)).ravel().astype(np.float64)
    e = (estimate - estimate.mean(1, keepdims=True)).ravel().astype(np.float64)
    target = (e @ s) / (s @ s) * s
    return 10 * math.log10((target @ target) / ((target - e) @ (target - e)))


def naive_mel_distance(reference: np.ndarray, estimate: np.ndarray, rate: int) -> float:
    means = []
    for window, n_mels in ((512, 40), (1024, 80), (2048, 160)):
        hop, edge = window // 4, window - window // 4
        hann = np.hanning(window + 1)[:-1]
        bank = mel_filterbank(rate, window, n_mels)
        logs = []
        for signal in (reference, estimate):
            padded = np.pad(signal.astype(np.float64), ((0, 0), (edge, edge)))
            starts = range(0, padded.shape[1] - window + 1, hop)
            frames = np.stack([padded[:, start : start + window] for start in starts], 1)
            logs.append(np.log10(np.maximum(np.abs(np.fft.rfft(frames * hann)) / hann.sum() @ bank.T, 1e-5)))
        means.append(np.abs(logs[0] - logs[1]).mean())
    return float(np.mean(means))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 2), st.integers(1, 3 * metrics.BLOCK), st.lists(st.integers(0, 3 * metrics.BLOCK), max_size=8))
def test_any_partition_gives_the_same_bits(channels, samples, cuts):
    reference, estimate = pair(channels, samples, samples)
    sdr, mel = SiSdr(), MelDistance(24000)
    places = sorted(min(cut, samples) for cut in cuts)
    for r, e in zip(np.split(reference, places, 1), np.split(estimate, places, 1), strict=True):
        sdr.update(r, e)
        mel.update(r, e)
    assert mel.result() == mel_distance(reference, estimate, 24000)
    assert sdr.result() == si_sdr(reference, estimate) or (samples == 1 and math.isnan(sdr.result()))


def test_single_samples_and_results_on_the_way_change_nothing():
    reference, estimate = pair(1, metrics.BLOCK + 700)
    sdr, mel = SiSdr(), MelDistance(24000)
    for n in range(reference.shape[1]):
        sdr.update(reference[:, n : n + 1], estimate[:, n : n + 1])
        mel.update(reference[:, n : n + 1], estimate[:, n : n + 1])
        if n % 5000 == 4999:
            assert mel.result() == mel_distance(reference[:, : n + 1], estimate[:, : n + 1], 24000)
            assert sdr.result() == si_sdr(reference[:, : n + 1], estimate[:, : n + 1])
    assert (sdr.result(), mel.result()) == (si_sdr(reference, estimate), mel_distance(reference, estimate, 24000))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(50, 40000), st.floats(-60, 60), st.floats(-1, 1))
def test_si_sdr_is_its_definition(channels, samples, decibels, offset):
    reference, estimate = pair(channels, samples, samples, 0.2 * 10 ** (-decibels / 20))
    estimate = estimate + np.float32(offset)
    expected = naive_si_sdr(reference.astype(np.float64), estimate.astype(np.float64))
    assert si_sdr(reference, estimate) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.floats(0.01, 100), st.booleans(), st.floats(-10, 10))
def test_si_sdr_does_not_hear_gain_polarity_or_offset(gain, flip, offset):
    reference, estimate = pair(1, 3000)
    changed = estimate.astype(np.float64) * (-gain if flip else gain) + offset
    assert si_sdr(reference, changed) == pytest.approx(si_sdr(reference, estimate), abs=1e-7)


def test_si_sdr_of_added_orthogonal_noise_is_the_ratio_of_energies():
    time = np.arange(24000) / 24000
    sine, cosine = np.sin(2 * np.pi * 100 * time), np.cos(2 * np.pi * 100 * time)
    for decibels in (-20, 0, 30, 100, 130):
        assert si_sdr(sine, sine + 10 ** (-decibels / 20) * cosine) == pytest.approx(decibels, abs=1e-3)


def test_si_sdr_at_its_limits():
    reference, estimate = pair(1, 1000)
    assert si_sdr(reference, reference) == math.inf
    assert si_sdr(reference, reference * 0.5) == math.inf
    assert si_sdr(reference, np.zeros_like(reference)) == -math.inf
    assert math.isnan(si_sdr(np.zeros_like(reference), estimate))
    assert math.isnan(si_sdr(np.full_like(reference, 0.3), estimate))
    assert math.isnan(SiSdr().result())
    assert math.isnan(MelDistance(24000).result())
    assert math.isnan(mel_distance(reference[:, :0], estimate[:, :0], 24000))


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 2), st.integers(1, 2 * metrics.BLOCK), st.sampled_from([16000, 24000, 48000]))
def test_mel_distance_is_its_definition(channels, samples, rate):
    reference, estimate = pair(channels, samples, samples)
    assert mel_distance(reference, estimate, rate) == pytest.approx(naive_mel_distance(reference, estimate, rate))


def test_mel_distance_counts_factors_of_ten_and_is_symmetric():
    reference, estimate = pair(1, 20000)
    assert mel_distance(reference, reference, 24000) == 0
    assert mel_distance(reference, reference * 10.0, 24000) == pytest.approx(1, abs=1e-6)
    assert mel_distance(reference, estimate, 24000) == mel_distance(estimate, reference, 24000)
    louder = pair(1, 20000, noise=0.3)[1]
    assert 0 < mel_distance(reference, estimate, 24000) < mel_distance(reference, louder, 24000)


def test_mel_distance_does_not_hear_below_its_floor():
    quiet = 1e-7 * pair(1, 5000)[0]
    assert mel_distance(quiet, np.zeros_like(quiet), 24000) == 0


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100, 48000])
@pytest.mark.parametrize("window", metrics.WINDOWS)
def test_filterbank_rows_are_means_in_rising_order_that_leave_no_gap(rate, window):
    bank = mel_filterbank(rate, window, metrics.WINDOWS[window])
    np.testing.assert_allclose(bank.sum(1), 1)
    assert (bank >= 0).all()
    bins = np.arange(bank.shape[1])
    assert (np.diff(bank @ bins) > 0).all()
    assert (bank.sum(0)[1:-1] > 0).all()  # every bin between 0 Hz and half the rate belongs to a band


def test_filterbank_leaves_out_bands_too_narrow_for_a_bin():
    bank = mel_filterbank(192000, 512, 40)
    assert len(bank) < 40
    np.testing.assert_allclose(bank.sum(1), 1)


def test_filterbank_peaks_are_slaneys():
    # 40 bands of Slaney's own filterbank step by 66.7 Hz: 15 mel up to 1 kHz, then 27 for each factor of 6.4.
    bank = mel_filterbank(2 * 6400, 2**15, n_mels=41)
    peaks = bank.argmax(1) * 12800 / 2**15
    expected = [200 / 3 * n for n in range(1, 16)] + [1000 * 6.4 ** (n / 27) for n in range(1, 27)]
    np.testing.assert_allclose(peaks, expected, atol=0.5)


@pytest.mark.parametrize("kind", ["torch", "grad", "int16", "one dimension", "batch"])
def test_signals_come_in_many_forms(kind):
    reference = (np.random.default_rng(0).integers(-9000, 9000, 3000) / 32768).astype(np.float32)
    estimate = (np.random.default_rng(1).integers(-9000, 9000, 3000) / 32768).astype(np.float32)
    forms = {
        "torch": torch.from_numpy,
        "grad": lambda x: torch.from_numpy(x).requires_grad_(),
        "int16": lambda x: (x * 32768).astype(np.int16),
        "one dimension": np.asarray,
        "batch": lambda x: x[None, None],
    }
    first, second = forms[kind](reference), forms[kind](estimate)
    assert si_sdr(first, second) == si_sdr(reference[None], estimate[None])
    assert mel_distance(first, second, 24000) == mel_distance(reference[None], estimate[None], 24000)


def test_rows_share_one_scale():
    reference, _ = pair(2, 1000)
    estimate = reference * np.array([[1.0], [3.0]])
    assert si_sdr(reference[:1], estimate[:1]) == math.inf
    assert si_sdr(reference, estimate) == pytest.approx(naive_si_sdr(reference, estimate))


def test_blocks_that_do_not_match_are_refused():
    sdr = SiSdr()
    with pytest.raises(ShapeError, match="aligned"):
        sdr.update(np.zeros((1, 5)), np.zeros((1, 6)))
    with pytest.raises(ShapeError, match="no dimension"):
        sdr.update(np.float32(1), np.float32(1))
    sdr.update(np.zeros((1, 5)), np.zeros((1, 5)))
    with pytest.raises(ShapeError, match="2 rows"):
        sdr.update(np.zeros((2, 5)), np.zeros((2, 5)))


def test_memory_does_not_grow():
    mel = MelDistance(24000)
    block = np.zeros((1, 1000), np.float32)
    sizes = set()
    for count in range(200):
        mel.update(block, block)
        if count >= 100:
            sizes.add(sum(part.nbytes for part in mel._pairs._parts) + mel._past.nbytes)
    assert max(sizes) <= 2 * 8 * (metrics.BLOCK + 1536)
