"""Integrated loudness of a mono signal (ITU-R BS.1770-4), block by block.

DAC's own command measures it to bring audio to one level before encoding and back after decoding, and keeps the number
in its files. Where its meter (descript-audiotools 0.7.2, after pyloudnorm) departs from the standard's letter so does
this one: the coefficients of the weighting, and silence after the end up to a whole number of blocks.
"""

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOWEST", "LoudnessMeter"]

Samples = NDArray[np.float64]

LOWEST = -70.0  # LUFS: the standard's absolute gate, and what silence is said to have
OFFSET = -0.691  # dB: makes a 997 Hz sine at full scale -3.01 LUFS (BS.1770-4, note 2)
RELATIVE_GATE = -10.0  # dB below the mean of what passes the absolute gate
BLOCK = 0.4  # seconds; blocks start every quarter of it
SHORTEST = 0.5  # seconds: shorter signals are lengthened with silence
FILTER_ROWS = 256  # samples that one product filters: 260 multiplications a sample, and few steps of the recursion


class _Biquad:
    """A filter of second order, y[n] = b . x[n-2..n] - a . y[n-2..n-1], over blocks of any length.

    The recursion is unrolled over FILTER_ROWS samples: a matrix takes them and the two numbers of state to as many
    outputs and the next state, so that Python steps once per matrix and not once per sample.
    """

    def __init__(self, b: tuple[float, float, float], a: tuple[float, float, float]) -> None:
        b0, b1, b2 = (value / a[0] for value in b)
        a1, a2 = a[1] / a[0], a[2] / a[0]
        # Transposed direct form II: y = b0 x + s1; s1' = b1 x - a1 y + s2; s2' = b2 x - a2 y.
        step = np.array([[-a1, 1.0], [-a2, 0.0]])
        enter = np.array([b1 - a1 * b0, b2 - a2 * b0])
        powers = [np.eye(2)]
        for _ in range(FILTER_ROWS):
            powers.append(step @ powers[-1])
        self._powers = np.stack(powers)  # [R + 1, 2, 2]
        response = np.concatenate([[b0], self._powers[:-1, 0] @ enter])  # [R + 1], to an impulse
        lag = np.arange(FILTER_ROWS)[None] - np.arange(FILTER_ROWS)[:, None]
        self._filter = np.where(lag >= 0, response[np.maximum(lag, 0)], 0.0)  # [in, out]
        self._enter = self._powers[:-1][::-1] @ enter  # [R, 2]: what each sample leaves in the state at the end
        self.state = np.zeros(2)

    def __call__(self, x: Samples) -> Samples:
        whole = len(x) - len(x) % FILTER_ROWS
        blocks = x[:whole].reshape(-1, FILTER_ROWS)
        states = np.empty((len(blocks), 2))
        entering = blocks @ self._enter
        for index, added in enumerate(entering):
            states[index] = self.state
            self.state = self._powers[FILTER_ROWS] @ self.state + added
        rest = x[whole:]
        count = len(rest)
        tail = rest @ self._filter[:count, :count] + self._powers[:count, 0] @ self.state
        self.state = self._powers[count] @ self.state + rest @ self._enter[FILTER_ROWS - count :]
        y = blocks @ self._filter + states @ self._powers[:FILTER_ROWS, 0].T
        return np.concatenate([y.ravel(), tail])


def _weighting(rate: int) -> tuple[_Biquad, _Biquad]:
    """The K weighting as pyloudnorm has it: shelf and high pass of Bristow-Johnson's cookbook.

    The shelf adds 4 dB above 1.5 kHz (slope of Q = 1/sqrt(2)), the high pass cuts below 38 Hz (Q = 0.5).
    """
    amplitude, w = 10 ** (4.0 / 40), 2 * math.pi * 1500.0 / rate
    cosine, slope = math.cos(w), 2 * math.sqrt(amplitude) * math.sin(w) * math.sqrt(2) / 2
    up, down = amplitude + 1, amplitude - 1
    shelf = _Biquad(
        (
            amplitude * (up + down * cosine + slope),
            -2 * amplitude * (down + up * cosine),
            amplitude * (up + down * cosine - slope),
        ),
        (up - down * cosine + slope, 2 * (down - up * cosine), up - down * cosine - slope),
    )
    w = 2 * math.pi * 38.0 / rate
    cosine, alpha = math.cos(w), math.sin(w)  # sin / (2 Q) with Q = 0.5
    edge = (1 + cosine) / 2
    return shelf, _Biquad((edge, -2 * edge, edge), (1 + alpha, -2 * cosine, 1 - alpha))


class LoudnessMeter:
    """The loudness of a mono signal that comes in pieces.

    meter = LoudnessMeter(44100)
    meter.push(pcm)          # [n], any n
    meter.integrated()       # LUFS of all so far

    sample_rate: Hz. Memory: one number for each 0.1 s of signal.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._filters = _weighting(sample_rate)
        self._size, self._step = int(BLOCK * sample_rate), int(BLOCK * sample_rate * 0.25)
        if self._step < 1:
            raise ValueError(f"sample_rate is {sample_rate}; loudness needs at least 10 Hz")
        self._samples, self._waiting = 0, np.zeros(0)
        self._blocks: deque[float] = deque()  # mean square of each

    def push(self, pcm: "NDArray[np.floating]") -> None:
        """More of the signal, [n], full scale at 1."""
        self._samples += len(pcm)
        self._waiting, means = self._measure(self._waiting, np.asarray(pcm, np.float64), self._filters)
        self._blocks.extend(means)

    def _measure(self, waiting: Samples, pcm: Samples, filters: tuple[_Biquad, _Biquad]) -> tuple[Samples, list[float]]:
        """The squares that wait for the next block, and the mean squares of the blocks now whole."""
        shelf, high_pass = filters
        squares = np.concatenate([waiting, np.square(high_pass(shelf(pcm)))])
        count = max(0, (len(squares) - self._size) // self._step + 1)
        if not count:
            return squares, []
        windows = np.lib.stride_tricks.sliding_window_view(squares, self._size)[: count * self._step : self._step]
        return squares[count * self._step :].copy(), (windows.sum(1) / (BLOCK * self.sample_rate)).tolist()

    def integrated(self) -> float:
        """LUFS of all that was pushed, at least `LOWEST`; the meter can go on."""
        # Upstream adds silence up to half a second before the filters, and after them up to where the last block ends.
        short = max(0, int(SHORTEST * self.sample_rate - self._samples))
        kept = [filter.state.copy() for filter in self._filters]
        waiting, means = self._measure(self._waiting, np.zeros(short), self._filters)
        for filter, state in zip(self._filters, kept, strict=True):
            filter.state = state
        blocks = [*self._blocks, *means]
        covered = self._size - self._step if blocks else 0
        if len(waiting) > covered or not blocks:
            blocks.append(float(waiting[: self._size].sum()) / (BLOCK * self.sample_rate))
        return _gated(np.array(blocks))


def _gated(blocks: Samples) -> float:
    def loudness(power: float) -> float:
        return OFFSET + 10 * math.log10(power) if power > 0 else -math.inf

    levels = np.array([loudness(power) for power in blocks])
    heard = levels > LOWEST
    if not heard.any():
        return LOWEST
    heard &= levels > loudness(float(blocks[heard].mean())) + RELATIVE_GATE
    return max(LOWEST, loudness(float(blocks[heard].mean()))) if heard.any() else LOWEST
