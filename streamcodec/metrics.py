"""How far a result is from its reference: SI-SDR and mel distance, in constant memory.

Both take the two signals in aligned blocks of any size. Blocks are regrouped into blocks of one fixed size before
anything is summed, so that a value does not depend on how the signal was cut, not even in its last bit.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ShapeError

__all__ = ["MelDistance", "SiSdr", "mel_distance", "mel_filterbank", "si_sdr"]

Rows = NDArray[np.float64]

BLOCK = 16384  # samples summed at a time: a multiple of every hop below, and small beside a second of audio

# Samples (21 to 85 ms at 24 kHz) and mel bands: as many as leave each band two bins of the window at 48 kHz.
WINDOWS = {512: 40, 1024: 80, 2048: 160}
ROUNDING = 1e-14  # relative error of the sums below: float64's 1.1e-16 with room for their length
FLOOR = 1e-5  # -100 dB re full scale: below it a magnitude is silence


def _rows(signal: Any) -> Rows:
    """[..., N] of NumPy or torch as float64 [R, N]."""
    if hasattr(signal, "detach"):
        signal = signal.detach().cpu()
    array = np.asarray(signal)
    if array.ndim == 0:
        raise ShapeError("a signal has no dimension; it must be [..., samples]")
    if array.dtype == np.int16:
        array = array / np.float64(32768)
    return array.astype(np.float64, copy=False).reshape(math.prod(array.shape[:-1]), array.shape[-1])


class _Pairs:
    """Aligned signals regrouped: [2, R, BLOCK] at a time, and the rest."""

    def __init__(self) -> None:
        self._parts: list[Rows] = []
        self._held = 0

    def push(self, reference: Any, estimate: Any) -> Iterator[Rows]:
        first, second = _rows(reference), _rows(estimate)
        if first.shape != second.shape:
            raise ShapeError(
                f"reference has {list(first.shape)} [rows, samples] and estimate {list(second.shape)}; "
                "they must be aligned blocks of one shape"
            )
        if self._parts and self._parts[0].shape[1] != len(first):
            raise ShapeError(f"this block has {len(first)} rows, the ones before it {self._parts[0].shape[1]}")
        self._parts.append(np.stack([first, second]))
        self._held += first.shape[1]
        if self._held < BLOCK:
            return
        held, end = self.rest(), self._held - self._held % BLOCK
        self._parts, self._held = [held[:, :, end:].copy()], self._held - end
        for start in range(0, end, BLOCK):
            yield held[:, :, start : start + BLOCK]

    def rest(self) -> Rows:
        """What is held and not yet given out, [2, R, n]; [2, 0, 0] before the first block."""
        return np.concatenate(self._parts, axis=2) if self._parts else np.zeros((2, 0, 0))


class SiSdr:
    """Scale-invariant signal-to-distortion ratio in dB, incrementally.

    SI-SDR = 10 log10(|a s|² / |a s - e|²), a = <e, s> / |s|², for a reference s and an estimate e without their means
    (Le Roux, Wisdom, Erdogan, Hershey, "SDR - half-baked or well done?", ICASSP 2019, section 3).

    Rows (channels) are one signal with one scale `a`, their means removed row by row.
    """

    def __init__(self) -> None:
        self._pairs = _Pairs()
        self._count = 0
        self._sums: Rows = np.zeros((5, 0))

    def update(self, reference: Any, estimate: Any) -> None:
        """Add aligned blocks, [..., n], NumPy or torch, float or int16. Raises ShapeError."""
        for pair in self._pairs.push(reference, estimate):
            self._sums = self._add(pair)
            self._count += pair.shape[2]

    def _add(self, pair: Rows) -> Rows:
        # With d = e - s instead of e the distortion is the part of d orthogonal to s: the same number, without the
        # cancellation that a good estimate (e close to s) would suffer.
        s, d = pair[0], pair[1] - pair[0]
        moments = np.stack([s.sum(1), d.sum(1), (s * s).sum(1), (d * d).sum(1), (s * d).sum(1)])
        return moments if self._sums.shape[1] == 0 else self._sums + moments

    def result(self) -> float:
        """The value so far, in dB.

        inf without distortion (sums in double precision resolve it to 140 dB below e - s), -inf where the estimate
        holds nothing of the reference, NaN where the reference is constant or there is none.
        """
        rest = self._pairs.rest()
        count = self._count + rest.shape[2]
        if count == 0:
            return math.nan
        s, d, ss, dd, sd = self._add(rest)
        energy = float((ss - s * s / count).sum())
        cross = float((sd - s * d / count).sum())
        difference = float((dd - d * d / count).sum())
        if energy <= ROUNDING * float(ss.sum()):
            return math.nan
        target = (1 + cross / energy) ** 2 * energy
        distortion = difference - cross * cross / energy
        if target <= 0:
            return -math.inf
        return 10 * math.log10(target / distortion) if distortion > ROUNDING * difference else math.inf


def si_sdr(reference: Any, estimate: Any) -> float:
    """SI-SDR in dB of two whole signals [..., N]; see `SiSdr`."""
    metric = SiSdr()
    metric.update(reference, estimate)
    return metric.result()


def mel_filterbank(sample_rate: int, window: int, n_mels: int) -> Rows:
    """Triangles on Slaney's mel scale from 0 Hz to half the sample rate, [bands, window // 2 + 1].

    Slaney's scale (Auditory Toolbox, 1998) is linear up to 1 kHz (15 mel, 66.7 Hz each) and logarithmic above (27 mel
    for each factor of 6.4). Each triangle's weights sum to 1, so that a band is a mean of magnitudes. A triangle too
    narrow to hold a bin of the window is left out.
    """
    step = math.log(6.4) / 27
    top = sample_rate / 2
    top_mel = 3 * top / 200 if top < 1000 else 15 + math.log(top / 1000) / step
    mels = np.linspace(0, top_mel, n_mels + 2)
    corners = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))[:, None]
    bins = np.arange(window // 2 + 1) * (sample_rate / window)
    low, peak, high = corners[:-2], corners[1:-1], corners[2:]
    weights = np.maximum(0, np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak)))
    weights = weights[weights.sum(1) > 0]
    return weights / weights.sum(1, keepdims=True)


class _Scale:
    """The mel spectrogram of one window size."""

    def __init__(self, sample_rate: int, window: int, n_mels: int) -> None:
        self.window, self.hop = window, window // 4
        self.context = window - self.hop
        self._hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
        self._bank = mel_filterbank(sample_rate, window, n_mels).T / self._hann.sum()

    def distance(self, pair: Rows) -> tuple[float, int]:
        """Sum of |log10 mel - log10 mel| over the frames that fit into [2, R, n], and how many terms that has."""
        frames = np.lib.stride_tricks.sliding_window_view(pair, self.window, axis=2)[:, :, :: self.hop]
        mel = np.abs(np.fft.rfft(frames * self._hann)) @ self._bank
        first, second = np.log10(np.maximum(mel, FLOOR))
        return float(np.abs(first - second).sum()), first.size


class MelDistance:
    """L1 distance of log10 mel magnitudes over three window sizes, incrementally; 0 is equal, 1 a factor of 10 (20 dB).

    For each window of 512, 1024 and 2048 samples: frames every quarter window over the signal, preceded and followed
    by three quarters of a window of zeros; periodic Hann window; |DFT| divided by the window's sum (a full-scale sine
    is 0.5); 40, 80 and 160 bands of `mel_filterbank`; log10 of the larger of that and 1e-5; the mean absolute
    difference over rows, frames and bands. The value is the mean over the three windows.
    """

    def __init__(self, sample_rate: int) -> None:
        self._pairs = _Pairs()
        self._scales = [_Scale(sample_rate, window, n_mels) for window, n_mels in WINDOWS.items()]
        self._context = max(scale.context for scale in self._scales)
        self._past: Rows = np.zeros((2, 0, self._context))
        self._sums = [(0.0, 0)] * len(self._scales)

    def update(self, reference: Any, estimate: Any) -> None:
        """Add aligned blocks, [..., n], NumPy or torch, float or int16. Raises ShapeError."""
        for pair in self._pairs.push(reference, estimate):
            known = self._with_past(pair)
            self._sums = [self._add(scale, sums, known) for scale, sums in zip(self._scales, self._sums, strict=True)]
            self._past = known[:, :, -self._context :].copy()

    def _with_past(self, pair: Rows) -> Rows:
        past = self._past if self._past.shape[1] else np.zeros((2, pair.shape[1], self._context))
        return np.concatenate([past, pair], axis=2)

    def _add(self, scale: _Scale, sums: tuple[float, int], known: Rows, after: int = 0) -> tuple[float, int]:
        known = np.pad(known[:, :, self._context - scale.context :], ((0, 0), (0, 0), (0, after)))
        total, terms = scale.distance(known)
        return sums[0] + total, sums[1] + terms

    def result(self) -> float:
        """The value so far; NaN before the first sample."""
        rest = self._pairs.rest()
        if rest.size == 0 and self._past.shape[1] == 0:
            return math.nan
        known = self._with_past(rest)
        means = []
        for scale, sums in zip(self._scales, self._sums, strict=True):
            total, terms = self._add(scale, sums, known, after=scale.context)
            means.append(total / terms)
        return sum(means) / len(means)


def mel_distance(reference: Any, estimate: Any, sample_rate: int) -> float:
    """Mel distance of two whole signals [..., N] at `sample_rate` Hz; see `MelDistance`."""
    metric = MelDistance(sample_rate)
    metric.update(reference, estimate)
    return metric.result()
